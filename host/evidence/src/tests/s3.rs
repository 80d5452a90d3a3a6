//! Against a server that speaks S3: `just evidence`.

use super::*;

fn bucket(endpoint: &str, key: &str) -> Settings {
    let Address::S3(mut s3) = Address::parse("s3://evidence/of/towns").unwrap() else { panic!() };
    s3.options = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ]
    .map(|(name, value)| (name, value.to_owned().into()))
    .into();
    settings(Address::S3(s3))
}

#[test]
#[ignore = "wants a server: just evidence"]
fn a_bucket_keeps_what_runs_left() {
    let endpoint = std::env::var("EVIDENCE_S3").expect("the server's URL");
    keeps_what_runs_left(&bucket(&endpoint, "key"));
    let mut other = bucket(&endpoint, "key");
    let Address::S3(s3) = &mut other.sink else { panic!() };
    s3.bucket = "missing".into();
    let (evidence, left) = start(other);
    // A bucket that is not there has no document, and takes none.
    assert!(left.is_ok_and(|left| left.run.is_none()));
    let stores = begin(evidence, "first", 1);
    assert!(!stores.evidence.flush(Duration::from_secs(2)));
    let notice = stores.notices.recv_timeout(PATIENCE).unwrap();
    let Notice::Failed { doing: "store", fault } = notice else { panic!("{notice:?}") };
    assert!(fault.message.contains("NoSuchBucket") || fault.message.contains("404"), "{fault}");
    assert!(!fault.message.contains("hunter2"), "{fault}");
}

#[test]
fn a_server_that_refuses_a_bucket_is_refused_and_one_that_is_gone_is_no_connection() {
    let server = Server::start();
    let url = format!("http://{}", server.at);
    server.set(Mood::Answers(403));
    let (_, left) = start(bucket(&url, "key"));
    let fault = left.unwrap_err();
    assert_eq!(fault.cause, Cause::Refused, "{fault}");
    server.set(Mood::Answers(507));
    let (_, left) = start(bucket(&url, "key"));
    assert_eq!(left.unwrap_err().cause, Cause::Full);
    server.set(Mood::Hangs);
    let (_, left) = start(Settings { fetch: Duration::from_millis(200), ..bucket(&url, "key") });
    assert_eq!(left.unwrap_err().cause, Cause::Deadline);
    let (_, left) = start(bucket("http://127.0.0.1:1", "key"));
    let fault = left.unwrap_err();
    assert_eq!(fault.cause, Cause::Connect, "{fault}");
}
