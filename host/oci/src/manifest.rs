//! What a manifest or an index says: which layer is the component. Pure.
//!
//! ```text
//!   digest of a reference ─▶ manifest ──────────────▶ the one layer of WebAssembly
//!                        └─▶ index ─▶ the one manifest for wasm ─┘
//! ```

use std::collections::BTreeMap;

use bulkhead_types::Digest;
use serde::Deserialize;

use crate::failure::{Cause, bounded};
use crate::reference::digest_of;

/// What a registry is asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// Largest manifest, in bytes: registries need not take larger ones.
pub(crate) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Media types of a component: the one of the CNCF's Wasm artifacts, which `wkg` writes, and the one before it.
const COMPONENT: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];

/// An index, by either name.
const INDEX: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Most names in the text of an error.
const MAX_NAMED: usize = 8;

/// Bytes in a registry, as a manifest describes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    pub digest: Digest,
    pub bytes: u64,
}

/// Where a document leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    ToLayer(Layer),
    /// An index does, to this manifest.
    ToManifest(Digest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// What a manifest or an index lists.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
}

/// Reads a document whose bytes are known to have this digest. An index must not lead to another one, so `from_index`
/// says where it was found.
pub(crate) fn read(digest: Digest, bytes: &[u8], from_index: bool) -> Result<Leads, Cause> {
    let wrong = |reason: String| Cause::Manifest { digest, reason };
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let is_index = document.media_type.as_deref().is_some_and(|it| INDEX.contains(&it));
    match (document.layers, document.manifests) {
        // Readers of the one and readers of the other would run different code.
        (Some(_), Some(_)) => Err(wrong("is both a manifest and an index".into())),
        (Some(_), None) if is_index => Err(wrong("is called an index and lists layers".into())),
        (Some(layers), None) => component(&layers).map(Leads::ToLayer).map_err(wrong),
        (None, Some(_)) if from_index => Err(wrong("is an index in an index".into())),
        (None, Some(manifests)) => for_wasm(&manifests).map(Leads::ToManifest).map_err(wrong),
        (None, None) => Err(wrong("lists neither layers nor manifests".into())),
    }
}

/// The layers of a manifest, of whatever kind.
pub(crate) fn layers(digest: Digest, bytes: &[u8]) -> Result<Vec<Descriptor>, Cause> {
    let wrong = |reason: String| Cause::Manifest { digest, reason };
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    document.layers.ok_or_else(|| wrong("lists no layers".into()))
}

fn component(layers: &[Descriptor]) -> Result<Layer, String> {
    let is_component = |layer: &&Descriptor| COMPONENT.contains(&media_type(layer));
    let found: Vec<_> = layers.iter().filter(is_component).collect();
    match *found {
        [layer] => layer.layer(),
        [] => Err(format!(
            "has no layer of a component: one has the media type {}; it has {}",
            COMPONENT.join(" or "),
            named(layers.iter().map(media_type))
        )),
        _ => Err(format!(
            "has {} layers of components, and nothing says which is meant; push one component alone",
            found.len()
        )),
    }
}

/// The one for WebAssembly, or the only one if none says for what it is.
fn for_wasm(manifests: &[Descriptor]) -> Result<Digest, String> {
    let says = |it: &&Descriptor| it.platform.as_ref().is_some_and(|it| it.architecture == "wasm");
    let said: Vec<_> = manifests.iter().filter(says).collect();
    let found = match said.is_empty() {
        true => manifests.iter().filter(|it| it.platform.is_none()).collect(),
        false => said,
    };
    match *found {
        [one] => one.digest(),
        [] => Err("is an index without a manifest for the architecture wasm".into()),
        _ => Err(format!(
            "is an index of several manifests for wasm; name one of them: {}",
            named(found.iter().map(|it| &*it.digest))
        )),
    }
}

impl Descriptor {
    pub(crate) fn layer(&self) -> Result<Layer, String> {
        Ok(Layer { digest: self.digest()?, bytes: self.size })
    }

    fn digest(&self) -> Result<Digest, String> {
        digest_of(&self.digest).ok_or_else(|| {
            format!("lists the digest {:?}, which is no sha256", bounded(&self.digest))
        })
    }
}

/// Without parameters.
fn media_type(layer: &Descriptor) -> &str {
    layer.media_type.split(';').next().unwrap_or_default().trim()
}

fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let mut text = names.take(MAX_NAMED).map(bounded).collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        text.push_str("none");
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const OWN: Digest = Digest([1; 32]);

    fn hex(byte: u8) -> String {
        format!("sha256:{}", Digest([byte; 32]))
    }

    fn layer(media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": hex(2), "size": 7 })
    }

    fn manifest(layers: &[Value]) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": hex(9), "size": 2 },
            "layers": layers,
        })
    }

    fn told(document: &Value) -> Result<Leads, String> {
        read(OWN, document.to_string().as_bytes(), false).map_err(|cause| cause.to_string())
    }

    #[test]
    fn the_one_layer_of_webassembly_is_the_component() {
        let expected = Ok(Leads::ToLayer(Layer { digest: Digest([2; 32]), bytes: 7 }));
        for media_type in COMPONENT.into_iter().chain(["application/wasm; version=1"]) {
            assert_eq!(told(&manifest(&[layer(media_type)])), expected, "{media_type}");
            let beside = [layer("text/plain"), layer(media_type)];
            assert_eq!(told(&manifest(&beside)), expected, "{media_type}");
        }
    }

    #[test]
    fn a_manifest_without_or_with_several_components_says_what_it_has() {
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        let error = told(&manifest(&[layer(tar)])).unwrap_err();
        assert!(error.contains("no layer of a component") && error.contains(tar), "{error}");
        assert!(error.contains(&OWN.to_string()), "{error}");
        assert!(told(&manifest(&[])).unwrap_err().contains("it has none"));
        let twice = [layer("application/wasm"), layer("application/wasm")];
        assert!(told(&manifest(&twice)).unwrap_err().contains("has 2 layers of components"));
    }

    #[test]
    fn an_index_leads_to_its_manifest_for_wasm() {
        let entry =
            |byte, platform: Value| json!({ "digest": hex(byte), "size": 1, "platform": platform });
        let wasm = entry(3, json!({ "architecture": "wasm", "os": "wasip2" }));
        let linux = entry(4, json!({ "architecture": "amd64", "os": "linux" }));
        let plain = json!({ "digest": hex(5), "size": 1 });
        let to = |byte| Ok(Leads::ToManifest(Digest([byte; 32])));
        let index = |entries: &[&Value]| told(&json!({ "manifests": entries }));
        assert_eq!(index(&[&linux, &wasm, &plain]), to(3));
        assert_eq!(index(&[&linux, &plain]), to(5));
        assert!(index(&[&linux]).unwrap_err().contains("architecture wasm"));
        let error = index(&[&wasm, &wasm]).unwrap_err();
        assert!(error.contains("several manifests") && error.contains(&hex(3)), "{error}");
        let nested = json!({ "manifests": [wasm] }).to_string();
        let error = read(OWN, nested.as_bytes(), true).unwrap_err().to_string();
        assert!(error.contains("an index in an index"), "{error}");
    }

    #[test]
    fn a_document_that_two_readers_read_differently_is_refused() {
        let wasm = layer("application/wasm");
        let both = json!({ "layers": [wasm], "manifests": [] });
        assert!(told(&both).unwrap_err().contains("both"));
        let mut called = manifest(&[layer("application/wasm")]);
        called["mediaType"] = INDEX[0].into();
        assert!(told(&called).unwrap_err().contains("called an index"));
        assert!(told(&json!({})).unwrap_err().contains("neither"));
        assert!(read(OWN, b"<html>", false).unwrap_err().to_string().contains("cannot be read"));
        let other = json!({ "layers": [{ "mediaType": "application/wasm", "digest": "sha512:00", "size": 1 }] });
        assert!(told(&other).unwrap_err().contains("no sha256"));
    }
}
