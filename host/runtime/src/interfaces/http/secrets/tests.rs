use http_body_util::StreamBody;

use super::*;

const TOKEN: &str = "ghp_0123456789";

fn own(allow_http: bool) -> Own {
    let hosts = vec![HttpRule::parse("api.example").unwrap()];
    let secret = HttpSecret {
        hosts,
        headers: vec![http::header::AUTHORIZATION],
        template: "Bearer {value}".into(),
        allow_http,
        value: Credential::fixed(TOKEN.to_owned().into()),
    };
    let all = HttpSecrets::from_iter([("github".into(), secret)]);
    Own::new(all, Arc::from(["github".into(), "gone".into()]))
}

fn to(url: &str) -> Destination {
    Destination::of(&url.parse().unwrap()).unwrap()
}

fn request(url: &str, header: &str, value: &str) -> Request<()> {
    Request::get(url).header(header, value).body(()).unwrap()
}

#[test]
fn a_placeholder_is_filled_in_for_its_host_and_header() {
    let url = "https://api.example/x";
    let mut request = request(url, "authorization", "{{secret:github}}");
    let filled = own(false).fill(&mut request, &to(url)).unwrap();
    assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
    assert!(request.headers()["authorization"].is_sensitive());
    assert_eq!(filled.names, ["github".into()]);
    assert!(!format!("{request:?}").contains(TOKEN));
}

#[test]
fn anywhere_else_it_is_refused_by_name() {
    let (github, auth) = ("{{secret:github}}", "authorization");
    let cases = [
        ("https://api.example/x", auth, "{{secret:other}}", "not one of the role's"),
        ("https://api.example/x", auth, "{{secret:gone}}", "not one of the role's"),
        ("https://evil.example/x", auth, github, "not for evil.example:443"),
        ("https://api.example:8443/x", auth, github, "not for api.example:8443"),
        ("http://api.example/x", auth, github, "plain HTTP"),
        ("https://api.example/x", "x-key", github, "header field x-key"),
        ("https://api.example/?k={{secret:github}}", "x-key", "", "stands in a URL"),
    ];
    for (url, header, value, why) in cases {
        let to = to(url.split('?').next().unwrap());
        let mut request = request(url, header, value);
        let error = own(false).fill(&mut request, &to).err().unwrap().to_string();
        assert!(error.contains(why), "{error} of {url}");
        assert!(!error.contains(TOKEN) && !format!("{request:?}").contains(TOKEN));
    }
    let url = "http://api.example/x";
    let mut plain = request(url, "authorization", "{{secret:github}}");
    assert!(own(true).fill(&mut plain, &to(url)).is_ok());
}

#[test]
fn a_filled_request_asks_for_no_coding_and_a_response_in_one_is_refused() {
    let url = "https://api.example/x";
    let mut request = request(url, "authorization", "{{secret:github}}");
    let gzip = HeaderValue::from_static("gzip;q=1, br");
    request.headers_mut().append("accept-encoding", gzip.clone());
    request.headers_mut().append("accept-encoding", gzip.clone());
    request.headers_mut().insert("te", gzip.clone());
    let filled = own(false).fill(&mut request, &to(url)).unwrap();
    let asked: Vec<_> = request.headers().get_all("accept-encoding").iter().collect();
    assert_eq!(asked, ["identity"]);
    assert!(!request.headers().contains_key("te"));
    for (header, value, is_fine) in [
        ("content-encoding", "identity", true),
        ("content-encoding", "", true),
        ("content-encoding", "gzip", false),
        ("content-encoding", "identity, BR", false),
        ("content-encoding", "x-own", false),
        ("transfer-encoding", "Chunked", true),
        ("transfer-encoding", "gzip, chunked", false),
        ("content-type", "gzip", true),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_static(value));
        let checked = filled.check(&headers);
        assert_eq!(checked.is_ok(), is_fine, "{header}: {value}");
        if let Err(refused) = checked {
            assert!(refused.to_string().contains("\"github\" was sent"), "{refused}");
        }
        assert!(Filled::default().check(&headers).is_ok());
    }
    // Of others it is theirs.
    let mut other = self::request(url, "accept-encoding", "gzip");
    own(false).fill(&mut other, &to(url)).unwrap();
    assert_eq!(other.headers()["accept-encoding"], "gzip");
}

#[test]
fn what_is_no_header_field_names_the_secret() {
    let url = "https://api.example/x";
    let mut request = request(url, "x-other", "x");
    let value = HeaderValue::from_bytes(b"gr\xfcn {{secret:github}}").unwrap();
    request.headers_mut().insert("authorization", value);
    let error = own(false).fill(&mut request, &to(url)).err().unwrap().to_string();
    assert!(error.contains("secret \"github\"") && error.contains("authorization"), "{error}");
    let mut own = own(false);
    let secrets = Arc::get_mut(&mut own.all.0).unwrap();
    secrets.get_mut("github").unwrap().value = Credential::fixed("a\u{7f}b-hush".to_owned().into());
    let mut request = self::request(url, "authorization", "x {{secret:github}}");
    let error = own.fill(&mut request, &to(url)).err().unwrap().to_string();
    assert!(error.contains("secret \"github\" makes no header"), "{error}");
}

#[tokio::test]
async fn trailers_are_masked_too() {
    let url = "https://api.example/x";
    let mut request = request(url, "authorization", "{{secret:github}}");
    let filled = own(false).fill(&mut request, &to(url)).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-echo", HeaderValue::from_static(TOKEN));
    let frames = [Frame::data(Bytes::from_static(b"ghp_")), Frame::trailers(trailers)];
    let body = StreamBody::new(Chunks(frames.map(Ok).into())).boxed_unsync();
    let got = filled.mask_body(body).collect().await.unwrap();
    let stars = "*".repeat(TOKEN.len());
    assert_eq!(got.trailers().unwrap()["x-echo"], stars.as_str());
    assert_eq!(got.to_bytes(), "ghp_");
}

fn in_pieces(text: &[u8], size: usize) -> WasiBody {
    let chunks: Vec<_> =
        text.chunks(size).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    StreamBody::new(Chunks(chunks.into())).boxed_unsync()
}

struct Chunks(std::collections::VecDeque<Result<Frame<Bytes>, Error>>);

impl futures_util::Stream for Chunks {
    type Item = Result<Frame<Bytes>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

#[tokio::test]
async fn a_value_that_comes_back_is_masked_in_pieces_of_every_size() {
    let text = format!("ghp_ {TOKEN}{TOKEN} ghp_01234 Bearer {TOKEN} ghp_");
    let stars = "*".repeat(TOKEN.len());
    let expected = format!("ghp_ {stars}{stars} ghp_01234 {} ghp_", "*".repeat(TOKEN.len() + 7));
    for size in 1..text.len() {
        let url = "https://api.example/x";
        let mut request = request(url, "authorization", "{{secret:github}}");
        let filled = own(false).fill(&mut request, &to(url)).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", HeaderValue::from_str(TOKEN).unwrap());
        filled.mask_headers(&mut headers);
        assert_eq!(headers["x-echo"], stars.as_str());
        let body = filled.mask_body(in_pieces(text.as_bytes(), size));
        let got = body.collect().await.unwrap().to_bytes();
        let got = std::str::from_utf8(&got).unwrap();
        assert_eq!(got, expected, "pieces of {size}");
    }
}

#[tokio::test]
async fn a_placeholder_in_a_body_is_an_error_and_other_braces_are_not() {
    for size in [1, 2, 5, 100] {
        let named = own(false).watch(in_pieces(b"a {{secret:github}} b", size));
        let error = named.collect().await.err().unwrap();
        assert!(format!("{error:?}").contains("stands in a body"), "{error:?}");
        let text = b"a {{secret:}} {{secret:githu}} {{secret:githubs}} {{x}}";
        let other = own(false).watch(in_pieces(text, size));
        assert_eq!(other.collect().await.unwrap().to_bytes(), &text[..]);
    }
}
