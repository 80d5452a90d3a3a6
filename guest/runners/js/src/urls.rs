//! What `URL` is made of: the URL standard, as the crate `url` has it.

use serde::Serialize;
use url::{Url, form_urlencoded, quirks};

/// A URL by its parts, with the names of the standard.
#[derive(Serialize)]
pub struct Parts {
    href: String,
    origin: String,
    protocol: String,
    username: String,
    password: String,
    host: String,
    hostname: String,
    port: String,
    pathname: String,
    search: String,
    hash: String,
}

impl From<&Url> for Parts {
    fn from(url: &Url) -> Self {
        Self {
            href: quirks::href(url).to_owned(),
            origin: quirks::origin(url),
            protocol: quirks::protocol(url).to_owned(),
            username: quirks::username(url).to_owned(),
            password: quirks::password(url).to_owned(),
            host: quirks::host(url).to_owned(),
            hostname: quirks::hostname(url).to_owned(),
            port: quirks::port(url).to_owned(),
            pathname: quirks::pathname(url).to_owned(),
            search: quirks::search(url).to_owned(),
            hash: quirks::hash(url).to_owned(),
        }
    }
}

/// `None`: it is no URL.
pub fn parse(text: &str, base: Option<&str>) -> Option<Parts> {
    let base = match base {
        Some(base) => Some(Url::parse(base).ok()?),
        None => None,
    };
    Url::options().base_url(base.as_ref()).parse(text).ok().as_ref().map(Into::into)
}

/// The URL with another part. What a part cannot be changes nothing, as the standard has it.
pub fn set(href: &str, part: &str, value: &str) -> Option<Parts> {
    let mut url = Url::parse(href).ok()?;
    match part {
        "protocol" => drop(quirks::set_protocol(&mut url, value)),
        "username" => drop(quirks::set_username(&mut url, value)),
        "password" => drop(quirks::set_password(&mut url, value)),
        "host" => drop(quirks::set_host(&mut url, value)),
        "hostname" => drop(quirks::set_hostname(&mut url, value)),
        "port" => drop(quirks::set_port(&mut url, value)),
        "pathname" => quirks::set_pathname(&mut url, value),
        "search" => quirks::set_search(&mut url, value),
        "hash" => quirks::set_hash(&mut url, value),
        _ => return None,
    }
    Some((&url).into())
}

/// Names and values of a form, or of a query.
pub fn read_form(text: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// The same as text.
pub fn write_form(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_parts_of_the_standard() {
        let parts = parse("../b?x=1#f", Some("HTTPS://u:p@Example.com:443/a/c/d")).unwrap();
        assert_eq!(parts.href, "https://u:p@example.com/a/b?x=1#f");
        assert_eq!((parts.protocol, parts.port), ("https:".into(), String::new()));
        assert_eq!(parts.origin, "https://example.com");
        assert!(parse("no url", None).is_none() && parse("x", Some("no base")).is_none());
        let set = |part, value| set("https://a.example/x", part, value).unwrap().href;
        assert_eq!(set("port", "8080"), "https://a.example:8080/x");
        assert_eq!(set("port", "none"), "https://a.example/x", "it stays");
        assert_eq!(set("search", "a b"), "https://a.example/x?a%20b");
    }

    #[test]
    fn a_form_is_read_and_written() {
        let pairs = read_form("a=b+c&ü=%C3%BC&&d&e=%zz%ff");
        let wanted = [("a", "b c"), ("ü", "ü"), ("d", ""), ("e", "%zz\u{fffd}")];
        assert_eq!(pairs, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(write_form(&pairs), "a=b+c&%C3%BC=%C3%BC&d=&e=%25zz%EF%BF%BD");
    }
}
