//! The page: files of this program, served under a policy that lets them load nothing but themselves.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::RawPathParams;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{api, gzip, takes_gzip};
use crate::export::page;

/// Nothing from elsewhere, nothing inline, nothing sent anywhere else, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// One file as it goes over the line.
struct File {
    of: &'static page::File,
    packed: Option<Bytes>,
    tag: String,
}

/// Packed once, when somebody asks for the first time.
static PACKED: LazyLock<Vec<File>> = LazyLock::new(|| {
    let file = |of: &'static page::File| File {
        of,
        packed: gzip(of.text.as_bytes()).ok().map(Bytes::from),
        // Another build has another one, which is all that it is for.
        tag: format!("\"{:08x}-{:x}\"", crc32fast::hash(of.text.as_bytes()), of.text.len()),
    };
    page::FILES.iter().map(file).collect()
});

/// `/` and the files that it needs.
pub(super) fn routes() -> Router {
    Router::new().route("/", get(index)).route("/{file}", get(file))
}

async fn index(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

async fn file(names: RawPathParams, headers: HeaderMap) -> Response {
    answer(names.iter().next().map_or("", |(_, name)| name), &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = PACKED.iter().find(|file| file.of.name == name) else {
        return api::nothing();
    };
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let head = [
        (CONTENT_TYPE, file.of.content_type),
        // It may be kept, and is asked for each time whether it is still the same.
        (CACHE_CONTROL, "no-cache"),
        (VARY, "accept-encoding"),
        (ETAG, &*file.tag),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let is_known = header(IF_NONE_MATCH)
        .split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == file.tag || tag == "*");
    match &file.packed {
        _ if is_known => (StatusCode::NOT_MODIFIED, head).into_response(),
        Some(packed) if takes_gzip(header(ACCEPT_ENCODING)) => {
            (head, [(CONTENT_ENCODING, "gzip")], packed.clone()).into_response()
        }
        _ => (head, Bytes::from_static(file.of.text.as_bytes())).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served_and_each_is_used() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/page");
        let there: BTreeSet<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // The list is for the page's own tests.
            .filter(|name| name != "modules.txt")
            .collect();
        let served: BTreeSet<_> = page::FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(there, served);
        for page::File { name, .. } in page::FILES.iter().filter(|file| file.name != "index.html") {
            let loads = |file: &page::File| file.text.contains(&format!("{name}\""));
            assert!(page::FILES.iter().any(loads), "nothing loads {name}");
        }
    }

    #[test]
    fn nothing_on_the_page_is_from_elsewhere_or_inline() {
        let page = page::FILES[0].text;
        for word in [" style=", " onclick=", " onload=", "<style", "src=\"http", "href=\"http", "<iframe"] {
            assert!(!page.contains(word), "{word}");
        }
        let scripts = page.matches("<script").count();
        assert_eq!(page.matches("<script type=\"module\" src=\"").count(), scripts);
        for page::File { name, text: script, .. } in
            page::FILES.iter().filter(|file| file.content_type.starts_with("text/javascript"))
        {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!script.contains(word), "{name}: {word}");
            }
        }
    }
}
