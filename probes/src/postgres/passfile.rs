//! The password file of libpq (`~/.pgpass`), as pgpass(5) describes it.
//!
//! `conninfo` may name such a file instead of a password. Finding and reading it, and checking who may read it,
//! is the caller's; this is only what the text in it means.

use super::conninfo::Secret;

/// The password on the first line of `contents` that fits this connection.
///
/// Each line is `host:port:database:user:password`; `*` alone fits anything in the first four fields, `\:` and
/// `\\` stand for `:` and `\`, and a line that starts with `#` is a comment. For a Unix-domain socket pass
/// `localhost` when its directory is the default one, and the directory otherwise, as libpq does.
pub fn lookup(contents: &str, host: &str, port: u16, dbname: &str, user: &str) -> Option<Secret> {
    let port = port.to_string();
    let wanted = [host, &port, dbname, user];
    contents.lines().find_map(|line| password(line.trim_end_matches('\r'), wanted))
}

/// The password of one line, when its first four fields fit.
fn password(line: &str, wanted: [&str; 4]) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for want in wanted {
        let (field, after) = field(rest);
        if !field.fits(want) {
            return None;
        }
        rest = after?;
    }
    Some(Secret::from(field(rest).0.text))
}

/// One field, unescaped.
struct Field {
    text: String,
    /// Only an unescaped `*` fits anything: `\*` is a name.
    wildcard: bool,
}

impl Field {
    fn fits(&self, want: &str) -> bool {
        self.wildcard || self.text == want
    }
}

/// The field that `rest` starts with, and what follows its colon. `None` after the last field of the line; libpq
/// ends the password too at an unescaped colon.
fn field(rest: &str) -> (Field, Option<&str>) {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return (Field { text, wildcard: &rest[..at] == "*" }, Some(&rest[at + 1..])),
            // A backslash at the very end escapes nothing and stays.
            '\\' => text.push(chars.next().map_or('\\', |(_, escaped)| escaped)),
            _ => text.push(c),
        }
    }
    (Field { text, wildcard: rest == "*" }, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(contents: &str) -> Option<String> {
        lookup(contents, "db.internal", 5432, "coder", "me").map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn a_line_fits_when_its_four_fields_do() {
        for (contents, expected) in [
            ("db.internal:5432:coder:me:pw", Some("pw")),
            ("db.internal:5432:coder:me:pw\n", Some("pw")),
            ("db.internal:5432:coder:me:pw\r\n", Some("pw")),
            ("*:*:*:*:pw", Some("pw")),
            ("db.internal:*:coder:*:pw", Some("pw")),
            ("other:5432:coder:me:pw", None),
            ("db.internal:5433:coder:me:pw", None),
            ("db.internal:5432:other:me:pw", None),
            ("db.internal:5432:coder:you:pw", None),
            ("db.*:5432:coder:me:pw", None),
            (r"\*:5432:coder:me:pw", None),
            ("db.internal:5432:coder:me", None),
            ("db.internal:5432:coder", None),
            ("", None),
            ("\n\n", None),
        ] {
            assert_eq!(found(contents).as_deref(), expected, "{contents:?}");
        }
    }

    #[test]
    fn the_first_line_that_fits_wins() {
        let contents = "other:*:*:*:no\n*:*:coder:me:first\ndb.internal:5432:coder:me:second\n";
        assert_eq!(found(contents).as_deref(), Some("first"));
    }

    #[test]
    fn comments_and_empty_lines_are_skipped() {
        assert_eq!(found("# host:port\n\n#*:*:*:*:no\n*:*:*:*:yes").as_deref(), Some("yes"));
        assert_eq!(lookup("#host:*:*:*:no", "#host", 5432, "coder", "me"), None);
    }

    #[test]
    fn escaped_colons_and_backslashes_are_read_in_every_field() {
        assert_eq!(found(r"*:*:*:*:a\:b\\c").as_deref(), Some(r"a:b\c"));
        assert_eq!(found(r"*:*:*:*:end\").as_deref(), Some(r"end\"));
        let secret = lookup(r"\:\:1:5432:a\\b:me:pw", "::1", 5432, r"a\b", "me");
        assert_eq!(secret.as_ref().map(Secret::expose), Some("pw"));
    }

    #[test]
    fn an_unescaped_colon_ends_the_password_as_in_libpq() {
        assert_eq!(found("*:*:*:*:pw:rest").as_deref(), Some("pw"));
    }

    proptest! {
        #[test]
        fn any_escaped_entry_is_found_again(
            host in "[^\r\n]{1,8}", dbname in "[^\r\n]{1,8}", user in "[^\r\n]{1,8}", password in "[^\r\n]{1,8}",
        ) {
            let escape = |text: &str| text.replace('\\', r"\\").replace(':', r"\:");
            let (h, d, u, p) = (escape(&host), escape(&dbname), escape(&user), escape(&password));
            prop_assume!(!h.starts_with('#'));
            let secret = lookup(&format!("{h}:5432:{d}:{u}:{p}\n"), &host, 5432, &dbname, &user);
            prop_assert_eq!(secret.as_ref().map(Secret::expose), Some(password.as_str()));
        }

        #[test]
        fn no_contents_make_it_panic(contents in any::<String>()) {
            let _ = found(&contents);
        }
    }
}
