//! Crash records over HTTP, from a supervisor that is played.

use super::fake::Rig;

#[test]
fn a_question_is_passed_on_and_its_answer_says_whether_there_is_more() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.get("/crashes?agent=a1&reason=trap&limit=7&before=c1");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["crashes"].as_array().map(Vec::len), Some(0));
    assert_eq!(answer.json()["more"], true);
    assert_eq!(client.get("/agents/a2/crashes").status, 200);
    let asked = rig.backend.changes();
    for (asked, parts) in [
        (&asked[0], ["\"a1\"", "Trap", "limit: 7", "\"c1\""].as_slice()),
        (&asked[1], ["\"a2\"", "limit: 100"].as_slice()),
    ] {
        assert!(parts.iter().all(|part| asked.contains(part)), "{asked}");
    }
}

#[test]
fn a_wrong_question_names_its_key_and_an_unknown_crash_is_not_found() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (query, key) in
        [("agent=%20", "agent"), ("reason=bad-luck", "reason"), ("limit=1001", "limit")]
    {
        let answer = client.get(&format!("/crashes?{query}"));
        assert_eq!((answer.status, answer.json()["issues"][0]["path"].as_str()), (400, Some(key)));
    }
    let answer = client.get("/crashes/c9");
    assert_eq!((answer.status, answer.json()["error_type"].as_str()), (404, Some("no-such-crash")));
}
