//! Where the admin listener is: an address, or a Unix socket that only its owner can open.

use rustix::fs::Mode;
use rustix::process::umask;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Only the owner of the process may connect.
const SOCKET_MODE: u32 = 0o600;

/// Where it listens (`admin.listen`), or has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// By TCP.
    Address(SocketAddr),
    /// On a Unix socket (`unix:PATH`).
    Unix(PathBuf),
}

impl Listen {
    /// The address; a Unix socket has none.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Listens there. A socket that nobody listens on any more is replaced; whatever else stands in its place is
    /// left alone.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::AddrInUse`] where another process listens.
    pub async fn bind(&self) -> io::Result<(Listener, Self)> {
        match self {
            Self::Address(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = Self::Address(listener.local_addr()?);
                Ok((Listener::Tcp(listener), bound))
            }
            Self::Unix(path) => {
                remove_stale(path).await?;
                // From its first moment on it is nobody else's.
                let before = umask(Mode::from_bits_truncate(0o177));
                let bound = UnixListener::bind(path);
                umask(before);
                let listener = bound?;
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
                let inode = fs::symlink_metadata(path)?.ino();
                Ok((Listener::Unix(listener, SocketFile { path: path.clone(), inode }), self.clone()))
            }
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}

/// What accepts operators.
#[derive(Debug)]
pub enum Listener {
    /// By TCP.
    Tcp(TcpListener),
    /// On a Unix socket, whose file goes with it.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket: removed when it is dropped, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

/// A connection of an operator.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// The next connection, and its address where it has one.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| (Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None))
            }
        }
    }
}
