//! Recursion without end.

use harness::Trial;
use harness::trial::functions;

#[test]
fn endless_recursion_is_distinguished_from_a_wild_pointer_and_its_frame_repeats() {
    let trial = Trial::of(&["stack"]);
    let crash = trial.ends_by("stack", "recurse", "stack_exhausted");
    let frames = functions(&crash);
    let repeated = frames.iter().filter(|name| name.contains("recurse")).count();
    assert!(repeated >= 5, "the frame does not repeat: {frames:?}");
    trial.finish();
}
