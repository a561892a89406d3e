//! Pure: what a registry asks for with 401 (`WWW-Authenticate`), as values. The header is hostile text:
//! it is bounded, and what is not a challenge is none.

use crate::image::registry::url::Url;

/// Longest header that is read, in bytes.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Challenges of one answer, and parameters of one challenge.
const PARTS_MAX: usize = 16;

/// How a registry wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A token, fetched at `realm`.
    Bearer {
        /// Where tokens are given out.
        realm: Url,
        /// For whom the token is, as the token server calls it.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
    /// A name and a password with each request.
    Basic,
}

/// The best of what was offered: a token before a password. `None` when nothing is understood.
pub fn choose<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.take(PARTS_MAX).flat_map(parse).collect();
    let bearer = all.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(all.first()).cloned()
}

/// Every challenge of one header that is understood.
fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > HEADER_BYTES_MAX {
        return Vec::new();
    }
    let mut rest = header;
    let mut found = Vec::new();
    while found.len() < PARTS_MAX {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((scheme, after)) = token(rest) else { break };
        let (parameters, after) = parameters(after);
        rest = after;
        let value = |name: &str| {
            let mut with = parameters.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            with.next().map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm").and_then(|realm| realm.parse().ok())
        {
            found.push(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
        }
    }
    found
}

/// `name="value", name=value`, up to the next scheme.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    while found.len() < PARTS_MAX {
        let at = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = token(at) else { break };
        let Some(after) = after.trim_start().strip_prefix('=') else { break };
        let Some((value, after)) = value(after.trim_start()) else { break };
        found.push((name.to_owned(), value));
        rest = after;
    }
    (found, rest)
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, rest)| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut is_escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if is_escaped => {
                value.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ if c.is_control() => return None,
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let realm = realm.parse().unwrap();
        Some(Challenge::Bearer { realm, service: own(service), scope: own(scope) })
    }

    fn one(header: &str) -> Option<Challenge> {
        choose([header].into_iter())
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        let token = "https://auth.docker.io/token";
        assert_eq!(
            one(hub),
            bearer(token, Some("registry.docker.io"), Some("repository:library/x:pull,push"))
        );
        assert_eq!(
            one(r#"bearer  REALM = "http://127.0.0.1:5001/t" "#),
            bearer("http://127.0.0.1:5001/t", None, None)
        );
        assert_eq!(one(r#"Basic realm="basic-realm""#), Some(Challenge::Basic));
        assert_eq!(one("Basic"), Some(Challenge::Basic));
        let both = r#"Basic realm="x", Bearer realm="https://h/t",service=s"#;
        assert_eq!(one(both), bearer("https://h/t", Some("s"), None));
        let headers = [r#"Basic realm="x""#, r#"Bearer realm="https://h/t""#];
        assert_eq!(choose(headers.into_iter()), bearer("https://h/t", None, None));
        let escaped = r#"Bearer realm="https://h/t",service="a\"b, c""#;
        assert_eq!(one(escaped), bearer("https://h/t", Some("a\"b, c"), None));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        let long = format!("Basic realm=\"{}\"", "x".repeat(HEADER_BYTES_MAX));
        for header in [
            "",
            ",,,,",
            "Negotiate",
            "Bearer",
            r#"Bearer realm="file:///etc/passwd""#,
            r#"Bearer realm="https://u:p@h/t""#,
            r#"Bearer realm="https://h/t"#,
            "Bearer realm=\"https://h/\u{7}\"",
            "\"Basic\"",
            &long,
        ] {
            assert_eq!(one(header), None, "{header:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic_or_run_on(header in ".{0,200}") {
            let _any = one(&header);
            let _any = one(&format!("Bearer realm=\"https://h/\",{header}"));
        }
    }
}
