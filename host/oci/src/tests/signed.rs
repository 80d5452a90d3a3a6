//! Components that have to be signed.

use super::*;
use crate::signature::tests::Signer;

#[tokio::test]
async fn a_component_that_has_to_be_signed_is_believed_for_its_signature() {
    let town = Town::new();
    let (signer, other) = (Signer::new(), Signer::new());
    let digest = town.server.push(&wasm());
    let layer = server::digest(&wasm()).to_string();
    let cause = town.get_signed(digest, Some(&signer.key())).await.unwrap_err();
    assert!(matches!(cause, Cause::Unsigned { .. }), "{cause}");
    assert!(cause.to_string().contains(&format!("sha256-{digest}.sig")), "{cause}");
    town.has_nothing();
    town.server.sign(digest, &other);
    let cause = town.get_signed(digest, Some(&signer.key())).await.unwrap_err();
    assert!(matches!(cause, Cause::WrongSignature { count: 1, .. }), "{cause}");
    town.has_nothing();
    assert!(town.server.asked_for("/blobs/").iter().all(|it| !it.path.ends_with(&layer)));
    town.server.sign(digest, &signer);
    town.get_signed(digest, Some(&signer.key())).await.unwrap();
    assert_eq!(
        town.server.asked_for("/blobs/").iter().filter(|it| it.path.ends_with(&layer)).count(),
        1
    );
}

#[tokio::test]
async fn a_signature_is_kept_and_needs_no_network_and_a_new_key_does() {
    let town = Town::new();
    let (signer, other) = (Signer::new(), Signer::new());
    let digest = town.server.push(&wasm());
    town.server.sign(digest, &signer);
    // Kept without a signature: nobody wanted one.
    town.get(digest).await.unwrap();
    let reference = town.reference(digest);
    assert!(town.registries().kept(&reference, Some(&signer.key())).unwrap().is_none());
    town.get_signed(digest, Some(&signer.key())).await.unwrap();
    let asked = town.server.asked().len();
    town.get_signed(digest, Some(&signer.key())).await.unwrap();
    assert_eq!(town.server.asked().len(), asked);
    assert!(town.registries().kept(&reference, Some(&signer.key())).unwrap().is_some());
    assert!(town.registries().kept(&reference, Some(&other.key())).unwrap().is_none());
    let cause = town.get_signed(digest, Some(&other.key())).await.unwrap_err();
    assert!(matches!(cause, Cause::WrongSignature { .. }), "{cause}");
}

#[tokio::test]
async fn a_signature_of_another_component_is_none() {
    let town = Town::new();
    let signer = Signer::new();
    let (good, evil) = (town.server.push(&wasm()), town.server.push(b"evil"));
    town.server.sign(good, &signer);
    let manifest = format!("/v2/town/toast/manifests/sha256-{good}.sig");
    let asked = town.server.asked_for(&manifest).len();
    assert_eq!(asked, 0);
    // What was signed for the good one, under the name of the other.
    town.server.answers(move |asked, _| {
        let is_evil = asked.path.ends_with(&format!("sha256-{evil}.sig"));
        is_evil.then(|| server::Reply::new(307, b"").with("Location", manifest.clone()))
    });
    let cause = town.get_signed(evil, Some(&signer.key())).await.unwrap_err();
    assert!(cause.to_string().contains("it signs another digest"), "{cause}");
}

#[tokio::test]
async fn the_key_of_the_settings_counts_unless_a_role_has_its_own() {
    let mut town = Town::new();
    let (signer, other) = (Signer::new(), Signer::new());
    let digest = town.server.push(&wasm());
    town.server.sign(digest, &signer);
    town.settings.others.public_key = Some(other.key());
    town.get(digest).await.unwrap_err();
    town.get_signed(digest, Some(&signer.key())).await.unwrap();
    let listed = crate::Access::default();
    town.settings.registries.insert(town.server.at.to_string(), listed);
    town.get(digest).await.unwrap_err();
    let access = town.settings.registries.values_mut().next().unwrap();
    access.public_key = Some(signer.key());
    town.get(digest).await.unwrap();
}
