//! A configuration file becomes [`Settings`], or every fault of it at once.
//!
//! ```text
//! text --toml--> tree --structure--> complete tree --serde--> file::File --check--> Settings
//!                         along schema, with the reference's defaults
//! ```
//!
//! Every step notes its faults in one report and goes on, so that one run finds all of them.

mod changes;
mod check;
mod environment;
mod exposure;
mod fault;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod given;
mod keys;
mod quantity;
mod reference;
mod schema;
mod structure;
mod suggestion;

pub use changes::{Change, Changes, Verb};
pub use exposure::exposed;
pub use fault::{Fault, Faults};
pub use keys::{Keys, Subject};
pub use schema::document as schema;

use crate::telemetry::spans;
use crate::{admin, cache, gateway, source, sync};
use fault::{Report, Secrets, WHOLE_FILE};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use structure::Walk;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything a gateway is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Worker threads.
    pub threads: usize,
    /// The public side.
    pub gateway: gateway::Settings,
    /// The operators' side; always there.
    pub admin: admin::Settings,
    /// Stored responses.
    pub cache: cache::Settings,
    /// Who has the data.
    pub sources: Vec<source::Settings>,
    /// Changes; used once a route has `[route.sync]`.
    pub sync: sync::Settings,
    /// Which spans go where; `None`: none are recorded.
    pub spans: Option<spans::Settings>,
    /// The configuration, secrets redacted, for `GET /v1/config`.
    pub redacted: serde_json::Value,
    /// What it is compared with another one by.
    pub keys: Keys,
    /// The SHA-256 of the text that it was read from, in hexadecimal digits.
    pub digest: String,
    /// The files that hold its secrets: keys of certificates, and its own where secrets stand in it.
    pub secret_files: Vec<PathBuf>,
}

impl Settings {
    /// Whether any route records changes.
    #[must_use]
    pub fn syncs(&self) -> bool {
        self.gateway.routes.iter().any(|route| route.sync.is_some())
    }
}

/// Reads a file with the environment of this process.
///
/// # Errors
/// Every fault of the file at once, an unreadable file included.
pub fn load(path: &Path) -> Result<Settings, Faults> {
    Text::read(path)?.settings()
}

/// The text of a file, not understood yet. It may hold secrets, and is never printed.
pub struct Text {
    path: PathBuf,
    content: String,
    digest: String,
}

impl Text {
    /// Reads a file.
    ///
    /// # Errors
    /// One fault: it cannot be read, or is no text.
    pub fn read(path: &Path) -> Result<Self, Faults> {
        let name = path.display().to_string();
        let unreadable = |cause: std::io::Error| {
            Faults::whole_file(&name, format!("cannot be read: {cause}"), "name a file that can be read")
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // One byte more tells a file that is too large from one that just fits.
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Faults::whole_file(&name, "is not UTF-8".to_owned(), "save it as UTF-8"))?;
        Ok(Self { path: path.to_owned(), digest: digest(&text), content: text })
    }

    /// Reads a file that was read before. What is no file is not waited for.
    ///
    /// # Errors
    /// As [`Text::read`].
    pub fn read_again(path: &Path) -> Result<Self, Faults> {
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let name = path.display().to_string();
            let message = "cannot be read again: it is not a regular file".to_owned();
            return Err(Faults::whole_file(&name, message, "start with a file that can be read again"));
        }
        Self::read(path)
    }

    /// Its SHA-256 in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it says, with the environment of this process.
    ///
    /// # Errors
    /// Every fault of it at once.
    pub fn settings(&self) -> Result<Settings, Faults> {
        let base = self.path.parent().unwrap_or(Path::new(""));
        let name = self.path.display().to_string();
        parse(&self.content, &name, base, &|variable| std::env::var(variable).ok())
    }
}

/// Reads the text of a file. Faults call it `name`; relative paths start at `base`.
///
/// # Errors
/// Every fault of the text at once.
pub fn parse(
    text: &str,
    name: &str,
    base: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, Faults> {
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = "is larger than 1 MiB".to_owned();
        return Err(Faults::whole_file(name, message, "split the routes over several gateways"));
    }
    let mut report = Report::new(name, text);
    let (mut tree, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let message = format!("not valid TOML: {}", error.message());
        report.fault_at(offset, WHOLE_FILE.to_owned(), message, "correct the syntax");
    }
    if !report.is_empty() {
        return Err(report.into_faults());
    }
    if tree.get_ref().is_empty() {
        let remedy = "write at least one [[source]] and one [[route]]";
        return Err(Faults::whole_file(name, "is empty".to_owned(), remedy));
    }
    let defaults = DeValue::Table(reference::table().clone());
    Walk { report: &mut report, environment }.table(&mut tree, "", schema::document(), Some(&defaults));
    let keys = Keys::of(name, tree.get_ref(), &report);
    let tree = Spanned::new(tree.span(), DeValue::Table(tree.into_inner()));
    let settings = match file::File::deserialize(ValueDeserializer::from(tree)) {
        Ok(file) => check::settings(&file, base, &mut report).map(|settings| Settings {
            keys,
            digest: digest(text),
            secret_files: match report.secrets() {
                Secrets::Written => [settings.secret_files, vec![PathBuf::from(name)]].concat(),
                Secrets::None => settings.secret_files,
            },
            ..settings
        }),
        // The walk lets nothing pass that does not fit the shapes; should it, this says where.
        Err(error) => {
            let span = error.span().unwrap_or_default();
            report.fault(&span, "does not fit its key", "see config/tidegate.toml");
            None
        }
    };
    settings.filter(|_| report.is_empty()).ok_or_else(|| report.into_faults())
}

fn digest(text: &str) -> String {
    use std::fmt::Write as _;
    let mut digits = String::with_capacity(2 * Sha256::output_size());
    for byte in Sha256::digest(text) {
        write!(digits, "{byte:02x}").unwrap_or_default();
    }
    digits
}

#[cfg(test)]
mod tests;
