//! The page's files as they are embedded, and the page as one file that asks nobody.

/// One file of the page.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its name, below `/`.
    pub name: &'static str,
    /// What it is.
    pub content_type: &'static str,
    /// All of it.
    pub text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal $content_type:expr),+ $(,)?) => {
        /// All of them: the document first, then the modules, each after those that it imports.
        pub const FILES: &[File] = &[$(File {
            name: $name,
            content_type: $content_type,
            text: include_str!(concat!("../web/page/", $name)),
        }),+];
    };
}

files!(
    "index.html" HTML,
    "probe.css" CSS,
    "dom.js" SCRIPT,
    "words.js" SCRIPT,
    "store.js" SCRIPT,
    "feed.js" SCRIPT,
    "route.js" SCRIPT,
    "shape.js" SCRIPT,
    "grid.js" SCRIPT,
    "chart.js" SCRIPT,
    "compare.js" SCRIPT,
    "panel.js" SCRIPT,
    "lists.js" SCRIPT,
    "banner.js" SCRIPT,
    "copy.js" SCRIPT,
    "probe.js" SCRIPT,
);

fn text(name: &str) -> &'static str {
    FILES.iter().find(|file| file.name == name).map_or("", |file| file.text)
}

/// The page with everything inside of it: it shows these data, which are JSON, and makes no request. `nonce` is nobody else's word:
/// only what bears it is run.
pub fn one_file(data: &str, nonce: &str) -> String {
    const STYLE: &str = r#"<link rel="stylesheet" href="probe.css">"#;
    const MODULE: &str = r#"<script type="module" src="probe.js"></script>"#;
    const CHARSET: &str = r#"<meta charset="utf-8">"#;
    let policy = format!(
        "{CHARSET}\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'nonce-{nonce}'; \
         style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'\">"
    );
    let style = format!("<style nonce=\"{nonce}\">\n{}</style>", text("probe.css"));
    // Inside of a script element nothing but its end has a meaning, and no JSON needs this character.
    let data = data.replace('<', "\\u003c");
    let script = format!(
        "<script id=\"probe-data\" type=\"application/json\">{data}</script>\n<script type=\"module\" nonce=\"{nonce}\">\n{}</script>",
        one_module()
    );
    text("index.html").replacen(CHARSET, &policy, 1).replacen(STYLE, &style, 1).replacen(MODULE, &script, 1)
}

/// Imports go, `export` goes, and what is left is one module: names differ throughout, which a test of the page sees to.
fn one_module() -> String {
    let modules = FILES.iter().filter(|file| file.content_type == SCRIPT);
    let lines = modules.flat_map(|file| file.text.lines()).filter(|line| !line.starts_with("import "));
    lines.map(|line| line.strip_prefix("export ").unwrap_or(line).to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_everything_inside_and_names_nothing_outside() {
        let page = one_file(r#"{"snapshot":{"verdict":{"words":"</script><script>alert(1)"}}}"#, "abc");
        for gone in [
            "<link rel=\"stylesheet\"",
            "src=\"probe.js\"",
            "\nimport ",
            "\nexport ",
            "</script><script>alert",
        ] {
            assert!(!page.contains(gone), "{gone}");
        }
        assert!(page.contains("\\u003c/script>\\u003cscript>alert(1)"));
        assert!(
            page.contains("script-src 'nonce-abc'")
                && page.contains("<script type=\"module\" nonce=\"abc\">")
        );
        assert_eq!(page.matches("<script").count(), 2, "the data and the module");
    }

    #[test]
    fn the_table_is_the_folder_and_the_order_of_its_modules() {
        let listed = include_str!("../web/page/modules.txt").lines();
        let modules: Vec<_> =
            FILES.iter().map(|file| file.name).filter(|name| name.ends_with(".js")).collect();
        assert_eq!(listed.collect::<Vec<_>>(), modules);
    }
}
