//! `/v1/explain`: how a request would be answered, and why. It changes nothing.

use super::Parts;
use super::input::Parameters;
use super::problem::Problem;
use super::serve::Peer;
use crate::explanation::{Explanation, Question};
use axum::extract::State;
use axum::{Extension, Json};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Who answers such questions.
pub type Explain = Box<dyn Fn(Question) -> BoxFuture<'static, Explanation> + Send + Sync>;

/// Field lines that a question may have; the gateway's own bound is lower.
const FIELDS_MAX: usize = 1000;

/// Explains how a request would be answered now.
#[utoipa::path(
    get, path = "/v1/explain", tag = "cache", operation_id = "explain",
    params(
        ("url" = String, Query, description = "the absolute URL", example = "http://api.example.com/items/7"),
        ("method" = Option<String>, Query, description = "its method; GET unless given", example = "GET"),
        ("header" = Option<Vec<String>>, Query, description = "a field line, `Name: value`; may be repeated"),
    ),
    responses((status = 200, body = Explanation, example = json!({
        "target": "http://api.example.com/items/7", "decision": "forward", "reason": "uri-miss",
        "rule": { "section": "RFC 9111 4", "says": "nothing is stored for this key" },
        "key": "http://api.example.com/items/7", "passed_over": [], "variants": [], "fence": 3, "quotas": []
    }))),
)]
pub(super) async fn show(
    State(parts): State<Arc<Parts>>,
    peer: Option<Extension<Peer>>,
    Parameters(asked): Parameters<Vec<(String, String)>>,
) -> Result<Json<Explanation>, Problem> {
    // Who asks here is taken for who would ask there: quotas are told for that address.
    let peer = peer.and_then(|Extension(Peer(peer))| peer);
    let peer = peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let question = question(asked, peer)?;
    Ok(Json((parts.explain)(question).await))
}

/// Reads what is asked.
fn question(asked: Vec<(String, String)>, peer: SocketAddr) -> Result<Question, Problem> {
    let (mut url, mut method, mut fields) = (None, None, HeaderMap::new());
    for (name, value) in asked {
        match name.as_str() {
            "url" => once(&mut url, "url", value)?,
            "method" => once(&mut method, "method", value)?,
            "header" if fields.len() >= FIELDS_MAX => {
                return Err(Problem::refused(format!("header: more than {FIELDS_MAX} of them")));
            }
            "header" => {
                let (name, value) = field(&value)?;
                fields.append(name, value);
            }
            _ => {
                let known = "there are url, method, header";
                return Err(Problem::unreadable(format!("there is no parameter {name:?}; {known}")));
            }
        }
    }
    let url = url.ok_or(Problem::unreadable("url is missing: which URL is asked about?"))?;
    let (authority, origin_form) = Question::parts(&url).map_err(|fault| {
        Problem::refused(format!("url is not an absolute http URL like http://host/path: {fault}"))
    })?;
    let method = match method {
        None => Method::GET,
        Some(word) => Method::from_bytes(word.as_bytes())
            .map_err(|_| Problem::refused("method is no HTTP method; methods are words like GET"))?,
    };
    Ok(Question { authority, origin_form, method, fields, peer })
}

fn once(slot: &mut Option<String>, name: &str, value: String) -> Result<(), Problem> {
    if slot.replace(value).is_some() {
        return Err(Problem::unreadable(format!("{name} is given twice")));
    }
    Ok(())
}

/// One field line, `Name: value`.
fn field(line: &str) -> Result<(HeaderName, HeaderValue), Problem> {
    let refused = || Problem::refused("header is not of the form `Name: value`");
    let (name, value) = line.split_once(':').ok_or_else(refused)?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
    let value = value.trim_matches([' ', '\t']);
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?;
    if name == TRANSFER_ENCODING || (name == CONTENT_LENGTH && value != "0") {
        return Err(Problem::refused(format!("header: {name}: a request is asked about without content")));
    }
    Ok((name, value))
}
