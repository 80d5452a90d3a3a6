//! Generates what agents in C and Go begin with from the contract, and what the bindings of the SDK in Rust have to be.
//!
//! ```text
//!  wit/ ─▶ wit-bindgen-c, wit-bindgen-go ─▶ OUT_DIR/c, OUT_DIR/go ─▶ bindings.rs: their paths and bytes
//!  source of wit-bindgen-go ─▶ the Go package that its code imports ─┘
//!  wit/ ─▶ wit-bindgen-rust ─▶ OUT_DIR/rust/agent.rs, which a test compares with guest/sdk/src/bindings.rs
//!  guest/sdk/ ─▶ OUT_DIR/sdk: what agents in Rust begin with
//!  wit/ ─▶ OUT_DIR/contract.rs: names of it, which a test compares with the types of the SDK in JavaScript
//! ```
//!
//! The SDK's bindings are in the repository, so those who write agents compile no generator.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_bindgen_core::wit_parser::{Resolve, TypeDefKind, WorldId, WorldItem};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::WithOption;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Paths in a project, with `/`, and contents.
type Project = Vec<(String, Vec<u8>)>;

const CONTRACT: &str = "../../wit";

const SDK: &str = "../../guest/sdk";

/// What those lines of C begin with that want an object file with the types linked. The Makefile embeds the types.
const OBJECT_FILE: &str = "\n// Ensure that the *_component_type.o";

/// Where the project of an agent in Rust has the SDK.
const VENDORED_SDK: &str = "vendor/bulkhead-guest";

/// Where Go looks for a package of that name before it asks anybody.
const VENDORED: &str = "vendor/go.bytecodealliance.org/pkg";

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={CONTRACT}");
    println!("cargo::rerun-if-changed={SDK}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut go = go_bindings()?;
    go.append(&mut go_package(&out)?);
    put(&out, "rust", &rust_bindings()?)?;
    fs::write(out.join("contract.rs"), names_of_contract()?)?;
    let sdk = sdk()?;
    let lists = [put(&out, "c", &c_bindings()?)?, put(&out, "go", &go)?, put(&out, "sdk", &sdk)?];
    Ok(fs::write(out.join("bindings.rs"), lists.concat())?)
}

fn c_bindings() -> Result<Project> {
    let options = wit_bindgen_c::Opts {
        no_object_file: true,
        rename_world: Some("bulkhead".to_owned()),
        ..Default::default()
    };
    let files = generated(&mut *options.build())?;
    files
        .iter()
        .map(|(name, bytes)| Ok((in_bindings(name), without_object_file(name, bytes)?)))
        .collect()
}

fn without_object_file(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    if !name.ends_with(".c") {
        return Ok(bytes.to_vec());
    }
    let (code, _) = std::str::from_utf8(bytes)?.split_once(OBJECT_FILE).ok_or_else(|| {
        format!("{name} of wit-bindgen-c does not refer to an object file as it did")
    })?;
    Ok(code.as_bytes().to_vec())
}

fn go_bindings() -> Result<Project> {
    let options = wit_bindgen_go::Opts {
        // gofmt need not be on the machine.
        format: wit_bindgen_go::Format::False,
        pkg_name: Some("agent/bindings".to_owned()),
        ..Default::default()
    };
    let files = generated(&mut *options.build())?;
    // Empty files of assembly serve tests on other machines than WebAssembly's.
    let code = files.iter().filter(|(name, _)| name.ends_with(".go"));
    Ok(code.map(|(name, bytes)| (in_bindings(name), bytes.to_vec())).collect())
}

fn rust_bindings() -> Result<Project> {
    let of_wasi = |name: &str| {
        let path = WithOption::Path(format!("wasip2::io::{name}"));
        (format!("wasi:io/{name}@0.2.0"), path)
    };
    let options = wit_bindgen_rust::Opts {
        pub_export_macro: true,
        export_macro_name: Some("export_component".to_owned()),
        default_bindings_module: Some("bulkhead_guest::bindings".to_owned()),
        generate_unused_types: true,
        additional_derive_attributes: vec!["PartialEq".to_owned()],
        with: ["error", "poll", "streams"].map(of_wasi).into(),
        ..Default::default()
    };
    let files = generated(&mut options.build())?;
    Ok(files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect())
}

/// The SDK but its manifest, which depends on this workspace: `templates/rust/sdk.toml` is that of the project.
fn sdk() -> Result<Project> {
    let sdk = Path::new(SDK);
    let mut files = vec![sdk.join("LICENSE"), sdk.join("README.md")];
    let mut folders = vec![sdk.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let in_project = |file: &Path| -> Result<String> {
        Ok(format!("{VENDORED_SDK}/{}", file.strip_prefix(sdk)?.display()))
    };
    files.iter().map(|file| Ok((in_project(file)?, fs::read(file)?))).collect()
}

/// Functions as `host.emit`, and types with their fields or cases as `host.event`, as constants.
fn names_of_contract() -> Result<String> {
    let (resolve, world) = contract()?;
    let world = &resolve.worlds[world];
    let (mut functions, mut types) = (Vec::new(), Vec::new());
    for item in world.imports.values().chain(world.exports.values()) {
        let WorldItem::Interface { id, .. } = item else { continue };
        let interface = &resolve.interfaces[*id];
        let name = interface.name.as_deref().unwrap_or_default();
        if interface.package != world.package {
            continue;
        }
        functions.extend(interface.functions.keys().map(|function| format!("{name}.{function}")));
        for (each, id) in &interface.types {
            let members: Vec<&str> = match &resolve.types[*id].kind {
                TypeDefKind::Record(it) => it.fields.iter().map(|it| it.name.as_str()).collect(),
                TypeDefKind::Enum(it) => it.cases.iter().map(|it| it.name.as_str()).collect(),
                TypeDefKind::Variant(it) => it.cases.iter().map(|it| it.name.as_str()).collect(),
                _ => continue,
            };
            types.push((format!("{name}.{each}"), members));
        }
    }
    Ok(format!(
        "const FUNCTIONS: &[&str] = &{functions:?};\nconst TYPES: &[(&str, &[&str])] = &{};\n",
        format!("{types:?}").replace(", [", ", &[")
    ))
}

fn contract() -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(CONTRACT)?;
    let world = resolve.select_world(&[package], Some("agent"))?;
    Ok((resolve, world))
}

fn generated(generator: &mut dyn WorldGenerator) -> Result<Files> {
    let (mut resolve, world) = contract()?;
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files)?;
    Ok(files)
}

fn in_bindings(name: &str) -> String {
    format!("bindings/{name}")
}

/// The package that the generated Go imports, of the version that it imports: the generator's source has it.
fn go_package(out: &Path) -> Result<Project> {
    let source = source_of("wit-bindgen-go", out)?.join("src/pkg");
    let mut files = vec![PathBuf::from("LICENSE")];
    for folder in ["wit/async", "wit/runtime", "wit/types"] {
        let entries = fs::read_dir(source.join(folder))?;
        for entry in entries {
            files.push(Path::new(folder).join(entry?.file_name()));
        }
    }
    files.sort();
    files.iter().map(|file| Ok((in_vendor(file), fs::read(source.join(file))?))).collect()
}

fn in_vendor(file: &Path) -> String {
    format!("{VENDORED}/{}", file.display())
}

/// The directory of a build dependency's source, which only cargo knows.
///
/// It is asked of a package that depends on nothing else: cargo would not answer for the workspace without a network where
/// the dependencies of other members are not downloaded.
fn source_of(dependency: &str, out: &Path) -> Result<PathBuf> {
    let asking = out.join("asking");
    fs::create_dir_all(&asking)?;
    fs::write(asking.join("lib.rs"), "")?;
    let manifest = asking.join("Cargo.toml");
    // The lock file chooses the version: that which this script is built with.
    fs::copy("../../Cargo.lock", asking.join("Cargo.lock"))?;
    fs::write(&manifest, asking_manifest(dependency))?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata(&manifest)?)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages.find(|package| package["name"] == dependency);
    let manifest = found.and_then(|package| package["manifest_path"].as_str());
    let source = manifest.and_then(|path| Path::new(path).parent());
    Ok(source.ok_or_else(|| format!("cargo knows of no source of {dependency}"))?.to_owned())
}

fn asking_manifest(dependency: &str) -> String {
    format!(
        "[workspace]\n[package]\nname = \"asking\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\n{dependency} = \"*\"\n"
    )
}

fn metadata(manifest: &Path) -> Result<Vec<u8>> {
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--offline", "--format-version=1", "--filter-platform"])
        .arg(env::var("HOST")?)
        .arg("--manifest-path")
        .arg(manifest)
        .output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Writes a project's files into the folder `name` of `out`. Returns a constant with their paths and bytes, which holds when
/// the target directory moves.
fn put(out: &Path, name: &str, project: &Project) -> Result<String> {
    let mut list = format!("pub(super) const {}: &[Template] = &[\n", name.to_uppercase());
    for (path, bytes) in project {
        let inside = format!("/{name}/{path}");
        let file = out.join(&inside[1..]);
        fs::create_dir_all(file.parent().unwrap_or(out))?;
        fs::write(&file, bytes)?;
        list += &format!("({path:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), {inside:?}))),\n");
    }
    Ok(list + "];\n")
}
