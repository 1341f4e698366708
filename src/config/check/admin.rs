//! `[admin]`: where operators are listened to, and what they show.

use super::Check;
use crate::admin::{Listen, NOBODY, ONLY_TOKEN, Operator, Role, Settings};
use crate::config::file;
use crate::config::given::{Given, Hidden};
use crate::target::Scheme;
use std::collections::HashSet;

/// The most operators.
const OPERATORS_MAX: usize = 100;

/// The longest path of a Unix socket, in bytes: that of `sockaddr_un` on Linux, with its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Check<'_, '_> {
    /// The admin side; `None` where it has no place to listen.
    pub(super) fn admin(&mut self, listen: Option<Listen>) -> Option<Settings> {
        let given = &self.file.admin;
        let operators = self.operators(&given.operator);
        let token = self.token(&given.token);
        let is_open = match &listen {
            Some(Listen::Address(address)) => !address.ip().to_canonical().is_loopback(),
            Some(Listen::Unix(_)) | None => false,
        };
        if is_open && token.is_none() && given.operator.is_empty() {
            let message = "missing: an admin listener beyond loopback needs one";
            self.report.fault(&given.token.span, message, "set it, or listen on 127.0.0.1");
        }
        let hosts = given.hosts.iter().map(|host| self.authority(host, Scheme::Http)).collect();
        Some(Settings { listen: listen?, token, operators, hosts })
    }

    fn operators(&mut self, given: &[Given<file::Operator>]) -> Vec<Operator> {
        if let Some(one_too_many) = given.get(OPERATORS_MAX) {
            let message = format!("there are more than {OPERATORS_MAX}");
            self.report.fault(&one_too_many.name.span, message, "let several share one");
        }
        self.unique(given.iter().map(|operator| &operator.name), "operator");
        let mut seen: HashSet<&str> = HashSet::from([self.file.admin.token.expose()]);
        let mut operators = Vec::with_capacity(given.len());
        for operator in given {
            if [ONLY_TOKEN, NOBODY].contains(&operator.name.as_str()) {
                let message = "means something else in the audit log";
                self.report.fault(&operator.name.span, message, "choose another name");
            }
            let Some(token) = self.token(&operator.token) else {
                self.report.fault(&operator.token.span, "is empty", "write a token, drawn at random");
                continue;
            };
            if !seen.insert(operator.token.expose()) {
                let message = "is another one's too: nobody could tell who called";
                self.report.fault(&operator.token.span, message, "give each its own token");
            }
            operators.push(Operator {
                name: operator.name.to_string(),
                token,
                role: match *operator.role {
                    file::Role::Read => Role::Read,
                    file::Role::Purge => Role::Purge,
                    file::Role::All => Role::All,
                },
            });
        }
        operators
    }

    fn token(&mut self, given: &Given<Hidden>) -> Option<crate::secret::Secret> {
        if !given.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "has a character that no bearer token may contain";
            self.report.fault(&given.span, message, "use visible ASCII characters");
        }
        given.secret()
    }

    pub(super) fn unix_socket(&mut self, path: &str) -> Option<Listen> {
        let listen = &self.file.admin.listen;
        let path = self.base.join(path);
        let bytes = path.as_os_str().len();
        if listen.len() == "unix:".len() || bytes > SOCKET_PATH_BYTES_MAX {
            let message = format!("the path of a socket has 1 to {SOCKET_PATH_BYTES_MAX} bytes");
            self.report.fault(&listen.span, message, "write one such as \"unix:/run/tidegate/admin.sock\"");
            return None;
        }
        Some(Listen::Unix(path))
    }
}
