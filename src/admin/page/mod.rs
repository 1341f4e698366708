//! The page at `/` and the files under it: parts of the binary, the same for everybody and without a token.
//! What they show comes from the calls below `/v1`, which the page makes as any other client does.

use super::input::{Nothing, Parameters};
use super::problem::Problem;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderName, HeaderValue};

#[cfg(test)]
mod tests;

/// Scripts, styles and calls of this listener only; nothing inline, nobody's frame, and no text that a script
/// could turn into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file of the page.
struct File {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

macro_rules! file {
    ($name:literal, $kind:expr) => {
        file!($name, $kind, "")
    };
    ($name:literal, $kind:expr, $folder:literal) => {
        File { name: $name, kind: $kind, content: include_str!(concat!("assets/", $folder, $name)) }
    };
}

const INDEX: File = file!("index.html", HTML);

/// What stands below `/page/`.
const FILES: [File; 16] = [
    file!("page.css", CSS),
    file!("page.js", SCRIPT),
    file!("calls.js", SCRIPT),
    file!("changes.js", SCRIPT),
    file!("charts.js", SCRIPT),
    file!("configuration.js", SCRIPT),
    file!("dead-letters.js", SCRIPT),
    file!("destinations.js", SCRIPT),
    file!("dialogs.js", SCRIPT),
    file!("elements.js", SCRIPT),
    file!("figures.js", SCRIPT),
    file!("look-up.js", SCRIPT),
    file!("icon.svg", SVG),
    file!("uplot.js", SCRIPT, "vendor/"),
    file!("uplot.css", CSS, "vendor/"),
    file!("uplot-license.txt", TEXT, "vendor/"),
];

/// The page.
#[utoipa::path(
    get, path = "/", tag = "page", operation_id = "page",
    responses((status = 200, body = String, content_type = "text/html", example = "<!doctype html>")),
)]
pub(super) async fn show(_: Parameters<Nothing>) -> Response {
    (&INDEX).into_response()
}

/// A script, a style or a picture of the page.
#[utoipa::path(
    get, path = "/page/{file}", tag = "page", operation_id = "page_file",
    params(("file" = String, Path, example = "page.css")),
    responses((status = 200, body = String, content_type = "text/css", example = "body {}")),
)]
pub(super) async fn file(
    name: Result<Path<String>, PathRejection>,
    _: Parameters<Nothing>,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|_| Problem::NOT_FOUND)?;
    let found = FILES.iter().find(|file| file.name == name).ok_or(Problem::NOT_FOUND)?;
    Ok(found.into_response())
}

impl IntoResponse for &File {
    fn into_response(self) -> Response {
        let fields = [
            (CONTENT_TYPE, self.kind),
            (CONTENT_SECURITY_POLICY, POLICY),
            (REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
        (fields, self.content).into_response()
    }
}
