//! A place in a bucket of S3.

use bulkhead_bucket::S3;

use super::{World, moves};
use crate::Address;

/// The bucket `towns` of a server at this URL.
pub fn address(url: &str) -> Address {
    let mut s3 = S3::parse("towns/a").unwrap();
    s3.options = vec![
        ("AWS_REGION", "us-east-1".to_owned().into()),
        ("AWS_ENDPOINT_URL_S3", url.to_owned().into()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned().into()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned().into()),
    ];
    Address::S3(s3)
}

/// `SHIP_S3` is its URL. It has the bucket.
#[test]
#[ignore = "wants a server: just lease"]
fn real_server() {
    moves(&World::at(address(&std::env::var("SHIP_S3").unwrap())));
}
