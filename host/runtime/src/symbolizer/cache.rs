//! What is known about components: their debug information, and addresses that were looked up.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_types::{Digest, Frame};
use sha2::{Digest as _, Sha256};

use super::component::{CoreModule, with_debug_info};
use super::dwarf::{Debug, Located};
use super::vet::{Budget, Unfit};
use super::{SymbolizerConfig, Unavailable, source};
use crate::aot::read_bounded;

/// Addresses that are remembered of one component, and bytes of what is known about them.
const MAX_ADDRESSES: usize = 4096;
const MAX_ADDRESS_BYTES: usize = 2 * 1024 * 1024;

/// Frames of an answer, those that are not there without debug information included.
const MAX_FRAMES: usize = 256;

/// How long a file that could not be used is left alone: a storm of crashes must not read it each time.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Components by digest, the most recently used of them.
pub(super) struct Cache {
    config: SymbolizerConfig,
    known: HashMap<Digest, Known>,
    now: u64,
}

struct Known {
    component: Result<Component, Unavailable>,
    used: u64,
    /// When it is worth another try.
    retry_at: Option<Instant>,
}

/// The debug information of one component.
struct Component {
    modules: Vec<Module>,
    addresses: HashMap<u64, Arc<[Located]>>,
    /// What those hold.
    address_bytes: usize,
    bytes: usize,
}

struct Module {
    /// Where its code is in the component's file.
    code: std::ops::Range<u64>,
    debug: Result<Debug, Unavailable>,
}

impl Cache {
    pub(super) fn new(config: SymbolizerConfig) -> Self {
        Self { config, known: HashMap::new(), now: 0 }
    }

    /// Bytes of debug sections that are kept, and of the tables that are made of them, at most.
    pub(super) fn bytes(&self) -> usize {
        self.known.values().map(Known::bytes).sum()
    }

    /// The frames with what is known about them.
    pub(super) fn symbolize(
        &mut self,
        digest: &Digest,
        path: &Path,
        frames: &[Frame],
    ) -> Result<Vec<Frame>, Unavailable> {
        let component = self.component(digest, path)?;
        let mut shown = Vec::with_capacity(frames.len());
        let mut failed = None;
        for frame in frames {
            let calls = match component.locate(frame.module_offset) {
                Ok(calls) => calls,
                Err(reason) => {
                    failed = Some(reason);
                    Arc::default()
                }
            };
            expand(frame, &calls, &mut shown);
        }
        if shown.iter().any(|frame| frame.file.is_some()) {
            Ok(shown)
        } else {
            Err(failed.unwrap_or(Unavailable::NoLines))
        }
    }

    /// Reading it ended in a panic: it is not tried again.
    pub(super) fn is_broken(&mut self, digest: Digest) {
        self.keep(digest, Err(Unavailable::Broken));
    }

    fn component(&mut self, digest: &Digest, path: &Path) -> Result<&mut Component, Unavailable> {
        self.now += 1;
        let is_known = self
            .known
            .get(digest)
            .is_some_and(|known| known.retry_at.is_none_or(|retry_at| Instant::now() < retry_at));
        if !is_known {
            let component = self.read(digest, path);
            self.keep(*digest, component);
        }
        // It was there, or it was just put there.
        let known = self.known.get_mut(digest).ok_or(Unavailable::TooLarge)?;
        known.used = self.now;
        known.component.as_mut().map_err(|reason| *reason)
    }

    fn read(&self, digest: &Digest, path: &Path) -> Result<Component, Unavailable> {
        let bytes = read_bounded(path, self.config.max_component_bytes)
            .map_err(|error| Unavailable::Unreadable(error.kind()))?
            .map_err(|_size| Unavailable::FileChanged)?;
        if Sha256::digest(&bytes)[..] != digest.0 {
            return Err(Unavailable::FileChanged);
        }
        Component::read(&bytes, self.config.max_bytes)
    }

    fn keep(&mut self, digest: Digest, component: Result<Component, Unavailable>) {
        let retry_at = match component {
            Err(Unavailable::FileChanged | Unavailable::Unreadable(_)) => {
                Some(Instant::now() + RETRY_AFTER)
            }
            _ => None,
        };
        self.known.insert(digest, Known { component, used: self.now, retry_at });
        while self.known.len() > self.config.max_components.max(1)
            || self.bytes() > self.config.max_bytes
        {
            let others = self.known.iter().filter(|(other, _)| **other != digest);
            let oldest = others.min_by_key(|(_, known)| known.used).map(|(other, _)| *other);
            let Some(oldest) = oldest else { return };
            self.known.remove(&oldest);
        }
    }
}

impl Known {
    fn bytes(&self) -> usize {
        self.component.as_ref().map_or(0, |component| component.bytes)
    }
}

impl Component {
    fn read(bytes: &[u8], max_bytes: usize) -> Result<Self, Unavailable> {
        let modules = with_debug_info(bytes).map_err(|_| Unavailable::Broken)?;
        if modules.is_empty() {
            return Err(Unavailable::NoDebugInfo);
        }
        let mut budget = Budget::new(max_bytes);
        let modules = modules.iter().map(|module| Module::read(module, &mut budget)).collect();
        let bytes = max_bytes - budget.bytes();
        Ok(Self { modules, addresses: HashMap::new(), address_bytes: 0, bytes })
    }

    /// What is known about an offset in the file. Nothing, when no debug information is about it.
    fn locate(&mut self, offset: Option<u64>) -> Result<Arc<[Located]>, Unavailable> {
        let Some(offset) = offset else { return Ok(Arc::default()) };
        if let Some(calls) = self.addresses.get(&offset) {
            return Ok(Arc::clone(calls));
        }
        let Some(module) = self.modules.iter().find(|module| module.code.contains(&offset)) else {
            return Ok(Arc::default());
        };
        let debug = module.debug.as_ref().map_err(|reason| *reason)?;
        let calls: Arc<[Located]> = debug.locate(offset - module.code.start)?.into();
        let bytes = calls.iter().map(Located::bytes).sum::<usize>();
        let is_full =
            self.addresses.len() >= MAX_ADDRESSES || self.address_bytes + bytes > MAX_ADDRESS_BYTES;
        if is_full {
            self.addresses.clear();
            self.address_bytes = 0;
        }
        self.address_bytes += bytes;
        self.addresses.insert(offset, Arc::clone(&calls));
        Ok(calls)
    }
}

impl Module {
    /// One that cannot be read takes nothing.
    fn read(module: &CoreModule<'_>, budget: &mut Budget) -> Self {
        let left = budget.bytes();
        let debug = Debug::new(module, budget).map_err(|unfit| {
            budget.give_back_to(left);
            Unavailable::from(unfit)
        });
        Self { code: module.code.clone(), debug }
    }
}

impl From<Unfit> for Unavailable {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Broken => Self::Broken,
            Unfit::TooLarge => Self::TooLarge,
        }
    }
}

/// Adds a frame, and one for each call in line.
fn expand(frame: &Frame, calls: &[Located], shown: &mut Vec<Frame>) {
    // Room for what is still to come matters more than calls in line.
    let calls = match calls {
        [.., last] if shown.len() + calls.len() > MAX_FRAMES => std::slice::from_ref(last),
        calls => calls,
    };
    let Some((function, in_line)) = calls.split_last() else {
        shown.push(Frame { index: shown.len(), ..frame.clone() });
        return;
    };
    for call in in_line {
        let function = call.function.clone();
        let place = Frame { function, in_app: call.in_app, ..frame.clone() };
        shown.push(at(call, place, shown.len()));
    }
    // The name section has the whole path of a function, tables of lines only its last part.
    let name = frame.function.clone().or_else(|| function.function.clone());
    let is_interpreter = frame.module.as_deref().is_some_and(source::is_interpreter);
    let in_app = match &function.file {
        Some(_) => {
            function.in_app && !is_interpreter && !name.as_deref().is_some_and(source::is_library)
        }
        None => frame.in_app,
    };
    shown.push(at(function, Frame { function: name, in_app, ..frame.clone() }, shown.len()));
}

fn at(call: &Located, frame: Frame, index: usize) -> Frame {
    Frame { index, file: call.file.clone(), line: call.line, column: call.column, ..frame }
}
