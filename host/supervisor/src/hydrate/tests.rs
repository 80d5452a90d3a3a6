use super::*;

#[test]
fn a_plan_that_broke_forgets_nobody() {
    assert_eq!(Plan::default().resumed(), Some(HashSet::new()));
    let broken = Plan { broken: Some("a panic".into()), ..Plan::default() };
    assert_eq!(broken.resumed(), None);
}
