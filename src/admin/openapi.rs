//! `/openapi.json`: the description of this API (`OpenAPI` 3.1), made of the handlers' own.

use super::input::{Nothing, Parameters};
use super::{
    changes, config, dead_letters, destinations, events, explain, input, operations, page, probes, purge,
    reload, replay,
};
use axum::Json;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HttpMethod, OpenApi, Ref, Response, ResponseBuilder, path::Operation};
use utoipa::{Modify, OpenApi as _, ToSchema};

/// The name of the token in the description.
const BEARER: &str = "bearer";

/// The description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "gateway", operation_id = "openapi",
    responses((status = 200, body = Object, example = json!({ "openapi": "3.1.0" }))),
)]
pub(super) async fn show(_: Parameters<Nothing>) -> Json<OpenApi> {
    Json(Document::openapi())
}

/// A refusal (RFC 9457), as `application/problem+json`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// `about:blank`: the status says what kind it is.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// Every fault of a configuration's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    faults: Option<Vec<FaultBody>>,
}

/// What is wrong with a configuration's file, as `tidegate check --json` tells it.
#[derive(Serialize, ToSchema)]
#[schema(as = Fault)]
pub(super) struct FaultBody {
    /// The file as it was named.
    file: String,
    /// Its line, from 1.
    line: u64,
    /// Its column in characters, from 1.
    column: u64,
    /// The dotted key.
    key: String,
    /// What is wrong.
    message: String,
    /// What to do about it.
    remedy: String,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Tidegate, the operators' listener", description = "GET changes nothing. Every refusal is a problem."),
    paths(
        show,
        probes::livez,
        probes::readyz,
        probes::metrics,
        purge::purge,
        purge::show,
        explain::show,
        destinations::list,
        destinations::pause,
        destinations::resume,
        changes::list,
        changes::show,
        changes::resolve,
        dead_letters::list,
        dead_letters::redrive,
        dead_letters::discard,
        replay::replay,
        operations::list,
        operations::stop,
        config::show,
        events::show,
        events::events,
        page::show,
        page::file,
        reload::reload,
    ),
    components(schemas(ProblemBody, input::Moment)),
    modifiers(&Refusals),
)]
pub(super) struct Document;

/// Adds what the guard and the reading of input refuse, which is the same everywhere.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme(BEARER, token);
        for (path, item) in &mut document.paths.paths {
            let of_v1 = path.starts_with("/v1/");
            for (method, operation) in
                [(HttpMethod::Get, item.get.as_mut()), (HttpMethod::Post, item.post.as_mut())]
            {
                let Some(operation) = operation else { continue };
                if of_v1 {
                    let none: [&str; 0] = [];
                    operation.security = Some(vec![SecurityRequirement::new(BEARER, none)]);
                }
                for (status, of) in REFUSALS {
                    if of.concerns(path, &method) {
                        refuse(operation, *status);
                    }
                }
            }
        }
    }
}

/// Which calls are refused with a status.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// All of them.
    Any,
    /// Those that ask for a name of this listener.
    Named,
    /// Those that ask for the token.
    V1,
    /// Those that only so many may have at once.
    Streams,
    /// Those that look something up.
    Lookups,
    /// Those whose input may be read and not be meant.
    Meaning,
    /// Those that take a body.
    Bodies,
    /// Those that ask the journal.
    Journal,
    /// Those that decide or begin something which may be decided or under way already.
    Once,
    /// Those that ask for somebody to be configured.
    Workers,
}

/// What may be refused, and where; 405 is answered on every path.
const REFUSALS: &[(u16, Of)] = &[
    (400, Of::Any),
    (401, Of::V1),
    (403, Of::Named),
    (404, Of::Lookups),
    (408, Of::Bodies),
    (409, Of::Once),
    (409, Of::Workers),
    (413, Of::Bodies),
    (415, Of::Bodies),
    (422, Of::Meaning),
    (429, Of::Once),
    (503, Of::Journal),
    (503, Of::Streams),
    (507, Of::Once),
];

impl Of {
    fn concerns(self, path: &str, method: &HttpMethod) -> bool {
        let below = |parts: &[&str]| parts.iter().any(|part| path.contains(part));
        match self {
            Self::Any => true,
            Self::Named => below(&["/v1/", "/openapi", "/page"]) || path == "/",
            Self::Streams => path == "/v1/events",
            Self::V1 => below(&["/v1/"]),
            Self::Lookups => below(&["{", "/changes", "/dead-letters", "/replay"]),
            Self::Meaning => {
                path == "/v1/purge"
                    || below(&["/explain", "/dead-letters", "/replay", "/reload"])
                    || path == "/v1/changes"
            }
            Self::Bodies => *method == HttpMethod::Post,
            Self::Journal => below(&["/destinations", "/changes", "/dead-letters", "/replay", "/reload"]),
            Self::Once => below(&["/resolve", "/redrive", "/discard", "/replay"]),
            Self::Workers => below(&["/pause", "/resume"]),
        }
    }
}

fn refuse(operation: &mut Operation, status: u16) {
    let title = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let title = title.unwrap_or_default();
    let example = json!({ "type": "about:blank", "title": title, "status": status, "detail": "what to do" });
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(Some(example)).build();
    let response: Response =
        ResponseBuilder::new().description(title).content("application/problem+json", content).build();
    operation.responses.responses.entry(status.to_string()).or_insert_with(|| response.into());
}
