//! A configuration file becomes [`Settings`], or every fault of it at once.

use crate::{admin, cache, gateway, source, sync};

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
    /// Changes; `None` where no route has `[route.sync]`.
    pub sync: Option<sync::Settings>,
    /// The configuration in force, secrets redacted, for `GET /v1/config`.
    pub redacted: serde_json::Value,
}
