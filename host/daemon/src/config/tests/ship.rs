use super::*;

const LEASE: &str = "[lease]\nregister = \"file:///r\"\nname = \"town\"\n";

#[test]
fn what_is_shipped_is_the_town_of_the_lease() {
    assert!(settings(LEASE).unwrap().ship.is_none());
    let text =
        format!("{LEASE}[ship]\nto = \"s3://towns/state\"\ninterval_ms = 50\nregion = \"r\"");
    let ship = settings(&text).unwrap().ship.unwrap();
    assert_eq!((ship.to.to_string().as_str(), ship.town.as_str()), ("s3://towns/state", "town"));
    assert_eq!((ship.every.as_millis(), ship.wait.as_secs()), (50, 5));
    let env = [("BULKHEAD_SHIP_TO", "file:///a")];
    let ship = with_env(LEASE, &env).unwrap().ship.unwrap();
    assert_eq!(ship.to.to_string(), "file:///a");
}

#[test]
fn a_place_that_cannot_be_used_is_refused_and_no_secret_is_shown() {
    let ship = |more: &str| format!("{LEASE}[ship]\n{more}");
    let role = "[components.c]\npath = \"c.wasm\"\n[roles.r]\ncomponent = \"c\"\ndurable = ";
    for (text, parts) in [
        ("[ship]\nto = \"file:///a\"".into(), ["ship.to", "needs a lease"]),
        (ship("to = \"etcd://a\""), ["ship.to", "it has to begin with"]),
        (ship("region = \"r\""), ["ship.region", "without a place"]),
        (ship("token = \"hunter2\""), ["ship.token", "without a place"]),
        (ship("to = \"nats://a\""), ["ship.to", "a bucket of"]),
        (ship("to = \"nats://a/b\"\nregion = \"r\""), ["ship.region", "in S3"]),
        (ship("to = \"file:///a\"\ntoken = \"hunter2\""), ["ship.token", "in NATS"]),
        (ship("to = \"nats://a/b\"\npassword = \"hunter2\""), ["ship.to", "needs both"]),
        (ship("to = \"file:///a\"\nregion = \"r\""), ["ship.region", "in S3"]),
        (ship("to = \"s3://towns\"\nsecret_access_key = \"hunter2\""), ["ship.to", "needs both"]),
        (format!("{LEASE}{role}\"fleet\""), ["roles.r.durable", "set ship.to"]),
        (format!("{LEASE}{role}\"disk\""), ["roles.r.durable", "fleet"]),
    ] {
        let error = settings(&text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
