//! `/v1/purge`: making stored responses old, or gone; `/v1/purges/{seq}`: who has done so.

use super::Parts;
use super::guard::Done;
use super::input::{Content, Nothing, Parameters};
use super::problem::Problem;
use crate::cache::{Applied, Purge, PurgeMode, PurgeStatus};
use crate::target::{Target, TargetForm, canonical_path};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What is to be purged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PurgeOrder)]
pub(super) struct Order {
    /// Absolute URLs, with every variant.
    #[serde(default)]
    urls: Vec<String>,
    /// Tags, whichever field or route gave them.
    #[serde(default)]
    tags: Vec<String>,
    /// A path beginning with `/`, of any host, or an absolute URL.
    prefix: Option<String>,
    /// Everything.
    #[serde(default)]
    all: bool,
    #[serde(default)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PurgeMode)]
pub(super) enum Mode {
    /// As if absent.
    #[default]
    Hard,
    /// Stale as of now.
    Soft,
}

impl From<Mode> for PurgeMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Hard => Self::Hard,
            Mode::Soft => Self::Soft,
        }
    }
}

/// Purges, here at once and elsewhere through the shared tier.
#[utoipa::path(
    post, path = "/v1/purge", tag = "cache", operation_id = "purge",
    request_body(content = Order, example = json!({ "urls": ["http://api.example.com/items/7"], "mode": "soft" })),
    responses((status = 202, body = Applied, example = json!({ "seq": 7, "scope": "shared" }))),
)]
pub(super) async fn purge(
    State(parts): State<Arc<Parts>>,
    Content(order): Content<Order>,
) -> Result<(StatusCode, Extension<Done>, Json<Applied>), Problem> {
    let mode = order.mode.into();
    // Counts only: a URL's query may hold a secret (I12).
    let noted = format!(
        "purge {mode:?} urls={} tags={} prefix={} all={}",
        order.urls.len(),
        order.tags.len(),
        u8::from(order.prefix.is_some()),
        order.all
    );
    let form = form(&parts.in_force.told().configuration.config);
    let applied = parts.cache.purge(purges(order, form)?, mode).await;
    if mode == PurgeMode::Soft {
        parts.cache.refill_hottest();
    }
    Ok((StatusCode::ACCEPTED, Extension(Done(format!("{noted} seq={}", applied.seq))), Json(applied)))
}

/// Which replicas have applied one.
#[utoipa::path(
    get, path = "/v1/purges/{seq}", tag = "cache", operation_id = "purge_status",
    params(("seq" = u64, Path, example = 1)),
    responses((status = 200, body = PurgeStatus, example = json!({
        "seq": 1, "scope": "shared", "applied": ["8c1f5e0a3b2d4c67"], "pending": []
    }))),
)]
pub(super) async fn show(
    State(parts): State<Arc<Parts>>,
    seq: Result<Path<u64>, PathRejection>,
    _: Parameters<Nothing>,
) -> Result<Json<PurgeStatus>, Problem> {
    let unknown = || Problem::not_found("this gateway has made no purge of that number, or has forgotten it");
    // What is no number is the number of no purge.
    let Path(seq) = seq.map_err(|_| unknown())?;
    parts.cache.purge_status(seq).await.map(Json).ok_or_else(unknown)
}

/// What targets may be stored: where a route is opaque, such without a canonical form, too.
fn form(config: &serde_json::Value) -> TargetForm {
    let routes = config["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_any = routes.iter().any(|route| route["target"] == "opaque");
    if is_any { TargetForm::Opaque } else { TargetForm::Canonical }
}

/// The purges that an order names, in canonical form: that covers every form in which they were asked for.
fn purges(order: Order, form: TargetForm) -> Result<Vec<Purge>, Problem> {
    let mut purges = Vec::with_capacity(order.urls.len() + order.tags.len() + 2);
    for (index, url) in order.urls.iter().enumerate() {
        let target = Target::parse_absolute_in(url, form).map_err(|fault| {
            Problem::refused(format!("urls[{index}] is not an absolute http URL: {fault}"))
        })?;
        purges.push(Purge::Url {
            authority: target.authority().as_str().to_owned(),
            path_and_query: target.path_and_query().to_owned(),
        });
    }
    for (index, tag) in order.tags.into_iter().enumerate() {
        if tag.is_empty() {
            return Err(Problem::refused(format!("tags[{index}] is empty")));
        }
        purges.push(Purge::Tag(tag));
    }
    purges.extend(order.prefix.as_deref().map(prefix).transpose()?);
    purges.extend(order.all.then_some(Purge::All));
    if purges.is_empty() {
        return Err(Problem::refused("nothing is named: give urls, tags, prefix, or \"all\": true"));
    }
    Ok(purges)
}

fn prefix(text: &str) -> Result<Purge, Problem> {
    let refused = |fault: &dyn std::fmt::Display| {
        Problem::refused(format!(
            "prefix is neither a path beginning with / nor an absolute http URL: {fault}"
        ))
    };
    if text.contains('?') {
        return Err(refused(&"it has a query"));
    }
    if text.starts_with('/') {
        let path = canonical_path(text).map_err(|fault| refused(&fault))?;
        return Ok(Purge::Prefix { authority: None, path });
    }
    let target = Target::parse_absolute(text).map_err(|fault| refused(&fault))?;
    let authority = Some(target.authority().as_str().to_owned());
    Ok(Purge::Prefix { authority, path: target.path().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    fn read(json: &str) -> Result<Vec<Purge>, Problem> {
        purges(serde_json::from_str(json).unwrap(), TargetForm::Canonical)
    }

    fn url(authority: &str, path_and_query: &str) -> Purge {
        Purge::Url { authority: authority.to_owned(), path_and_query: path_and_query.to_owned() }
    }

    fn below(authority: Option<&str>, path: &str) -> Purge {
        Purge::Prefix { authority: authority.map(str::to_owned), path: path.to_owned() }
    }

    #[test]
    fn i8_purges_name_canonical_targets() {
        for (json, purges) in [
            (
                r#"{"urls":["http://H:80/%7ea?b=%7E","https://h:443"]}"#,
                vec![url("h", "/~a?b=%7E"), url("h", "/")],
            ),
            (r#"{"tags":["items"],"mode":"soft"}"#, vec![Purge::Tag("items".to_owned())]),
            (r#"{"prefix":"/%61/"}"#, vec![below(None, "/a/")]),
            (r#"{"prefix":"http://h:8080/a"}"#, vec![below(Some("h:8080"), "/a")]),
            (r#"{"all":true}"#, vec![Purge::All]),
            (r#"{"urls":["http://h/"],"tags":["t"]}"#, vec![url("h", "/"), Purge::Tag("t".to_owned())]),
        ] {
            assert_eq!(read(json), Ok(purges), "{json}");
        }
    }

    #[test]
    fn i8_where_a_route_is_opaque_every_form_can_be_purged() {
        let order = serde_json::from_str(r#"{"urls":["http://h/a/../b","http://h/%61"]}"#).unwrap();
        let opaque = form(&serde_json::json!({ "route": [{ "name": "a" }, { "target": "opaque" }] }));
        assert_eq!(purges(order, opaque), Ok(vec![url("h", "/a/../b"), url("h", "/a")]));
        assert_eq!(form(&serde_json::json!({ "route": [{ "target": "canonical" }] })), TargetForm::Canonical);
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for json in [
            "{}",
            r#"{"urls":[]}"#,
            r#"{"all":false}"#,
            r#"{"urls":["/items"]}"#,
            r#"{"urls":["http://h/","items"]}"#,
            r#"{"urls":["ftp://h/"]}"#,
            r#"{"urls":["http://h/a/../b"]}"#,
            r#"{"tags":[""]}"#,
            r#"{"prefix":""}"#,
            r#"{"prefix":"items"}"#,
            r#"{"prefix":"/a?b"}"#,
        ] {
            let refusal = read(json).unwrap_err().into_response();
            assert_eq!(refusal.status(), StatusCode::UNPROCESSABLE_ENTITY, "{json}");
        }
    }
}
