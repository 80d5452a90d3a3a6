//! Components, as files or in registries, and these: `[components.NAME]`, `[registries.NAME]`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_net::{Connector, Credential};
use bulkhead_oci::{Access, Bounds, Login, PublicKey, Reference, Settings};
use toml::Spanned;

use super::file;
use super::problem::{Problem, trust};
use super::secrets;

/// The registry that stands for all that are not listed.
const OTHERS: &str = "*";

/// Largest file of a public key, in bytes.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// What registries have.
#[derive(Debug, Clone)]
pub struct ComponentSettings {
    /// How they are asked, and where components are kept.
    pub registries: Settings,
    /// By the component's name.
    pub wanted: BTreeMap<Arc<str>, Wanted>,
    /// Credentials that are read when a registry wants some.
    pub files: Vec<PathBuf>,
}

/// A component of a registry.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub reference: Reference,
    /// Who has to have signed it; of one without, what its registry says.
    pub public_key: Option<PublicKey>,
}

/// The file of each component, by name. Those of registries are where they will be kept.
pub(super) type Files = BTreeMap<Arc<str>, PathBuf>;

/// Where components are kept, and how much.
pub(super) struct Kept {
    pub dir: PathBuf,
    pub bounds: Bounds,
}

pub(super) fn check_components(
    components: BTreeMap<String, file::Component>,
    registries: BTreeMap<String, file::Registry>,
    kept: Kept,
    base: &Path,
    outside: &Connector,
) -> Result<(Files, ComponentSettings), Problem> {
    let mut checked = check_registries(registries, kept, base, outside)?;
    let mut files = BTreeMap::new();
    for (name, component) in components {
        let name: Arc<str> = name.into();
        let path = match check_component(&name, component, base)? {
            Code::File(path) => path,
            Code::Registry(wanted) => {
                let place = checked.registries.place(&wanted.reference);
                checked.wanted.insert(Arc::clone(&name), wanted);
                place
            }
        };
        files.insert(name, path);
    }
    Ok((files, checked))
}

enum Code {
    File(PathBuf),
    Registry(Wanted),
}

fn check_component(name: &str, component: file::Component, base: &Path) -> Result<Code, Problem> {
    let problem = |key: &str, span, message: String| {
        Problem::at(span, format!("components.{name}.{key}"), message)
    };
    let file::Component { path, reference, public_key_file } = component;
    match (path, reference) {
        (Some(path), None) => match public_key_file {
            None => Ok(Code::File(base.join(path.into_inner()))),
            Some(key) => {
                let message = "is for a component with a reference".to_owned();
                Err(problem("public_key_file", key.span(), message))
            }
        },
        (None, Some(reference)) => {
            let parsed = Reference::parse(reference.get_ref());
            let parsed = parsed
                .map_err(|error| problem("reference", reference.span(), error.to_string()))?;
            let shown = format!("components.{name}.public_key_file");
            let public_key = public_key(&shown, public_key_file.as_ref(), base)?;
            Ok(Code::Registry(Wanted { reference: parsed, public_key }))
        }
        (Some(_), Some(reference)) => {
            let message = "and path are both set: a component has one of them".to_owned();
            Err(problem("reference", reference.span(), message))
        }
        (None, None) => {
            let message = "is missing: a component has `path` or `reference`".to_owned();
            Err(problem("path", 0..0, message))
        }
    }
}

fn check_registries(
    registries: BTreeMap<String, file::Registry>,
    kept: Kept,
    base: &Path,
    outside: &Connector,
) -> Result<ComponentSettings, Problem> {
    let mut settings = Settings { bounds: kept.bounds, ..Settings::new(kept.dir, outside.clone()) };
    let mut files = Vec::new();
    for (name, registry) in registries {
        let shown = |key: &str| format!("registries.{name}.{key}");
        let place = (name != OTHERS).then(|| of_registry(&name)).transpose()?;
        if let Some(file) = &registry.ca_file {
            let Some(place) = &place else {
                let message = "is for one registry, and not for all others".to_owned();
                return Err(Problem::at(file.span(), shown("ca_file"), message));
            };
            let trusted = trust(&shown("ca_file"), file, base)?;
            let all = std::mem::take(&mut settings.connector.trust);
            settings.connector.trust = all.with(place.destination(true), trusted);
        }
        let public_key =
            public_key(&shown("public_key_file"), registry.public_key_file.as_ref(), base)?;
        let plain_http = registry.plain_http;
        let login = login(&name, registry, base, &mut files)?;
        let access = Access { login, plain_http, public_key };
        match place {
            None => settings.others = access,
            Some(place) => {
                settings.registries.insert(place.registry().to_owned(), access);
            }
        }
    }
    Ok(ComponentSettings { registries: settings, wanted: BTreeMap::new(), files })
}

/// Some component of a registry, which says whether there can be such a registry.
fn of_registry(name: &str) -> Result<Reference, Problem> {
    let some = format!("oci://{name}/a@sha256:{}", "0".repeat(64));
    Reference::parse(&some).map_err(|_| {
        let message = "is no registry: write host or host:port, or * for all others".to_owned();
        Problem::at(0..0, format!("registries.{name}"), message)
    })
}

fn login(
    name: &str,
    registry: file::Registry,
    base: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<Login, Problem> {
    let problem = |key: &str, span, message: &str| {
        Problem::at(span, format!("registries.{name}.{key}"), message.to_owned())
    };
    let file::Registry { username, password, password_file, credentials_file, .. } = registry;
    if let Some(file) = credentials_file {
        if username.is_some() || password.is_some() || password_file.is_some() {
            let message = "and a user or a password are both set: a registry has one of them";
            return Err(problem("credentials_file", file.span(), message));
        }
        let path = base.join(file.into_inner());
        files.push(path.clone());
        return Ok(Login::File(path));
    }
    let password = match (password, password_file) {
        (Some(password), Some(_)) => {
            return Err(problem(
                "password",
                password.span(),
                "and password_file are both set; remove one",
            ));
        }
        (Some(password), None) => Some((password.span(), Credential::fixed(password.into_inner()))),
        (None, Some(file)) => {
            let path = base.join(file.get_ref());
            files.push(path.clone());
            let read = move || secrets::read_file(&path).map(Some);
            let credential =
                Credential::read(format!("registries.{name}.password_file"), Arc::new(read));
            credential.current().map_err(|error| problem("password_file", file.span(), &error))?;
            Some((file.span(), credential))
        }
        (None, None) => None,
    };
    match (username, password) {
        (Some(name), Some((_, password))) => Ok(Login::User { name: name.into_inner(), password }),
        (None, None) => Ok(Login::Anonymous),
        (Some(name), None) => {
            Err(problem("username", name.span(), "needs password or password_file"))
        }
        (None, Some((span, _))) => Err(problem("password", span, "needs username")),
    }
}

fn public_key(
    shown: &str,
    file: Option<&Spanned<PathBuf>>,
    base: &Path,
) -> Result<Option<PublicKey>, Problem> {
    let Some(file) = file else { return Ok(None) };
    let path = base.join(file.get_ref());
    let problem = |message: String| {
        Problem::at(file.span(), shown.to_owned(), format!("{} {message}", path.display()))
    };
    let mut pem = Vec::new();
    let read =
        std::fs::File::open(&path).and_then(|it| it.take(MAX_KEY_BYTES).read_to_end(&mut pem));
    read.map_err(|error| problem(format!("cannot be read: {error}")))?;
    PublicKey::from_pem(&pem).map(Some).map_err(|error| problem(error.to_string()))
}
