#![expect(clippy::disallowed_methods, reason = "servers of tests end with their runtime")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::TcpListener;

use super::*;
use crate::BaseUrl;

const PATIENCE: Duration = Duration::from_secs(20);

/// Addresses that a name stands for in a test.
struct Fixed(Vec<SocketAddr>);

impl Addresses for Fixed {
    fn of<'a>(&'a self, _: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

fn to(host: &str, port: u16, tls: bool) -> Destination {
    Destination { host: host.into(), port, tls }
}

fn through(variable: &str, url: String) -> Connector {
    let named = |name: &str| (name == variable).then(|| url.clone().into());
    Connector { proxies: Proxies::from_env(named).unwrap(), ..Connector::default() }
}

/// Reads the head of a request or an answer, its first line first.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Vec<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A CONNECT proxy that leads every tunnel to one port of this machine. Returns the heads that it saw.
async fn proxy(
    leads_to: u16,
    answer: &'static str,
) -> (u16, Arc<parking_lot::Mutex<Vec<Vec<String>>>>) {
    let (listener, port) = listen().await;
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heads = Arc::clone(&heads);
            tokio::spawn(async move {
                let head = head(&mut stream).await;
                let is_tunnel = head[0].starts_with("CONNECT ");
                heads.lock().push(head);
                stream.write_all(answer.as_bytes()).await.unwrap();
                if is_tunnel && answer.contains(" 200 ") {
                    let mut server = TcpStream::connect(("127.0.0.1", leads_to)).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                }
            });
        }
    });
    (port, seen)
}

const CONNECTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

/// A TLS server whose certificate is for `name` and signed by the authority that is returned as PEM.
async fn tls_server(name: &str) -> (u16, String) {
    let (config, authority) = tls_fixture::server(name);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                head(&mut stream).await;
                stream.write_all(FINE.as_bytes()).await.unwrap();
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, authority)
}

fn trusting(pem: &str) -> Trust {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    Trust::from_file(file.path()).unwrap()
}

/// Asks for `/x?y` and returns the status line.
async fn ask(mut connected: Connected) -> String {
    let mut request = Request::get("/x?y").body(()).unwrap();
    connected.route.prepare(&mut request).unwrap();
    let mut text = format!("GET {} HTTP/1.1\r\n", request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text.push_str("\r\n");
    connected.stream.write_all(text.as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(connected.stream).read_line(&mut line).await.unwrap();
    line.trim().to_owned()
}

async fn connect(
    connector: &Connector,
    to: &Destination,
    addresses: &dyn Addresses,
) -> Result<Connected, ConnectError> {
    let mut step = Step::Resolving;
    let connecting = connector.connect(to, addresses, PATIENCE, &mut step);
    tokio::time::timeout(PATIENCE, connecting).await.expect("connected or failed in time")
}

#[tokio::test]
async fn plain_http_goes_to_a_proxy_with_its_whole_url_and_its_password() {
    let (port, heads) = proxy(0, FINE).await;
    let connector = through("HTTP_PROXY", format!("http://user:hunter2@127.0.0.1:{port}"));
    // The name has no address: the proxy is to look it up.
    let connected = connect(&connector, &to("town.invalid", 8080, false), &System).await.unwrap();
    assert_eq!(ask(connected).await, "HTTP/1.1 200 OK");
    let head = heads.lock().remove(0);
    assert_eq!(head[0], "GET http://town.invalid:8080/x?y HTTP/1.1");
    assert!(head.contains(&"host: town.invalid:8080".to_owned()), "{head:?}");
    assert!(head.contains(&"proxy-authorization: Basic dXNlcjpodW50ZXIy".to_owned()), "{head:?}");
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_the_server_is_known_by_its_certificate() {
    let (server, authority) = tls_server("town.invalid").await;
    let (port, heads) = proxy(server, CONNECTED).await;
    let mut connector = through("HTTPS_PROXY", format!("http://user:hunter2@127.0.0.1:{port}"));
    let town = to("town.invalid", 443, true);
    let error = connect(&connector, &town, &System).await.err().unwrap();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    connector.trust = trusting(&authority);
    assert_eq!(ask(connect(&connector, &town, &System).await.unwrap()).await, "HTTP/1.1 200 OK");
    let head = heads.lock().remove(1);
    assert_eq!(head[0], "CONNECT town.invalid:443 HTTP/1.1");
    assert!(head.contains(&"Proxy-Authorization: Basic dXNlcjpodW50ZXIy".to_owned()), "{head:?}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    for (answer, said) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "authorization required"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "unsuccessful"),
        ("nonsense\r\n\r\n", "unsuccessful"),
    ] {
        let (port, _) = proxy(0, answer).await;
        let connector = through("HTTPS_PROXY", format!("http://u:hunter2@127.0.0.1:{port}"));
        let error = connect(&connector, &to("a.invalid", 443, true), &System).await.err().unwrap();
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("a.invalid:443"));
        assert!(text.contains(said) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_private_authority_is_believed_for_its_destination_only() {
    let (port, authority) = tls_server("127.0.0.1").await;
    let server = to("127.0.0.1", port, true);
    let plain = Connector::default();
    let error = connect(&plain, &server, &System).await.err().unwrap();
    assert!(error.to_string().contains("certificate"), "{error}");
    let trust = Trust::default().with(server.clone(), trusting(&authority));
    let connector = Connector { trust, ..Connector::default() };
    let answer = ask(connect(&connector, &server, &System).await.unwrap()).await;
    assert_eq!(answer, format!("HTTP/1.1 {}", StatusCode::OK));
    let other = to("localhost", port, true);
    assert!(connect(&connector, &other, &System).await.is_err());
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_dead_and_no_other_is() {
    let (listener, port) = listen().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let free = TcpListener::bind("[::1]:0").await.ok();
    let dead = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
    let mut addresses = vec![dead, SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    if free.is_some() {
        addresses.insert(0, SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    }
    let name = to("several.invalid", port, false);
    connect(&Connector::default(), &name, &Fixed(addresses)).await.unwrap();
    let only_dead = Fixed(vec![dead]);
    let error = connect(&Connector::default(), &name, &only_dead).await.err().unwrap();
    let ConnectError::Connect { to, source } = &error else { panic!("{error}") };
    assert_eq!(to, &format!("several.invalid:{port}"));
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(chain(&error).matches("refused").count(), 1, "{}", chain(&error));
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn only_admitted_addresses_are_connected_to() {
    let (listener, port) = listen().await;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let there = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
    let other = TcpListener::bind(there).await.unwrap();
    let admit = |_: &Destination, address: IpAddr| match address == there.ip() {
        true => Ok(()),
        false => Err(format!("{address} is not for you")),
    };
    let name = to("several.invalid", port, false);
    let judged = Judged { found: Fixed(vec![here, there]), admit };
    connect(&Connector::default(), &name, &judged).await.unwrap();
    other.accept().await.unwrap();
    let judged = Judged { found: Fixed(vec![here]), admit };
    let error = connect(&Connector::default(), &name, &judged).await.err().unwrap();
    assert_eq!(error.to_string(), "127.0.0.1 is not for you");
    // Literal addresses are judged as well.
    let literal = to("127.0.0.1", port, false);
    let judged = Judged { found: System, admit };
    assert!(connect(&Connector::default(), &literal, &judged).await.is_err());
    // Connections are accepted in the order in which they came.
    let own = TcpStream::connect(here).await.unwrap();
    let (_, first) = listener.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap(), "the refused address was connected to");
}

#[tokio::test]
async fn a_name_without_an_address_says_so() {
    let url = BaseUrl::parse("http://town.invalid").unwrap();
    let error = connect(&Connector::default(), &url.destination, &System).await.err().unwrap();
    assert!(error.to_string().starts_with("cannot resolve town.invalid: "), "{error}");
}
