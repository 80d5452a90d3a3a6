//! URLs: taken apart for a request, and cleaned for a message.

use wasip2::http::types::Scheme;

/// The parts that `wasi:http` asks for.
pub(super) struct Parts {
    pub(super) scheme: Scheme,
    pub(super) authority: String,
    pub(super) path: String,
}

/// Takes an absolute `http` or `https` URL apart.
pub(super) fn parse(url: &str) -> Result<Parts, &'static str> {
    // A fragment is never sent, and `http::Uri` drops it.
    let uri: http::Uri = url.parse().map_err(|_| "not an absolute URL")?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        Some(_) => return Err("scheme is neither http nor https"),
        None => return Err("scheme is missing"),
    };
    let authority = uri.authority().ok_or("host is missing")?.as_str();
    if authority.contains('@') {
        return Err("user name and password are not allowed");
    }
    let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
        path if path.starts_with('/') => path.to_owned(),
        query => format!("/{query}"),
    };
    Ok(Parts { scheme, authority: authority.to_owned(), path })
}

/// Says why a URL cannot be requested, for configuration that is better refused early.
pub fn check(url: &str) -> Result<(), &'static str> {
    parse(url).map(|_| ())
}

/// The URL without what may be secret in it: user name, password, query, fragment.
pub fn redact(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = &url[..end];
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(host_end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let parts = parse("http://127.0.0.1:9100/v1/chat?x=1#top").unwrap();
        assert!(matches!(parts.scheme, Scheme::Http));
        assert_eq!(parts.authority, "127.0.0.1:9100");
        assert_eq!(parts.path, "/v1/chat?x=1");
    }

    #[test]
    fn a_url_without_a_path_asks_for_the_root() {
        assert_eq!(parse("https://example.com").unwrap().path, "/");
        assert_eq!(parse("https://example.com?q=1").unwrap().path, "/?q=1");
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        let bad = ["", "/v1", "example.com", "ftp://h/", "http://", "http://a b/", "http://u:p@h/"];
        for url in bad {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn secrets_do_not_survive_redaction() {
        assert_eq!(redact("https://u:p@host:1/a/b?key=s#f"), "https://host:1/a/b");
        assert_eq!(redact("https://host"), "https://host");
        assert_eq!(redact("not a url?key=s"), "not a url");
    }
}
