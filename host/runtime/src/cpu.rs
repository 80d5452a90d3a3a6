//! For which processors code is compiled.

use serde::{Deserialize, Serialize};
use wasmtime::Config;

/// Processors that compiled components run on. Code for one may not run on another, and the cache keeps them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cpu {
    /// The one that this program runs on, with all that it can do.
    #[default]
    #[serde(rename = "native")]
    Native,
    /// What every processor of this architecture can do: for aarch64, and for the oldest x86-64.
    #[serde(rename = "baseline")]
    Baseline,
    /// x86-64 since about 2009: SSE 4.2, POPCNT.
    #[serde(rename = "x86-64-v2")]
    X86V2,
    /// x86-64 since about 2015: AVX2, BMI, FMA.
    #[serde(rename = "x86-64-v3")]
    X86V3,
    /// x86-64 with AVX-512.
    #[serde(rename = "x86-64-v4")]
    X86V4,
}

impl Cpu {
    /// As it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Baseline => "baseline",
            Self::X86V2 => "x86-64-v2",
            Self::X86V3 => "x86-64-v3",
            Self::X86V4 => "x86-64-v4",
        }
    }

    /// What this processor lacks to run code for that one, by names of the kernel's `/proc/cpuinfo`.
    pub fn missing_here(self) -> Vec<&'static str> {
        self.features().into_iter().filter(|(_, is_here)| !is_here).map(|(name, _)| name).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn features(self) -> Vec<(&'static str, bool)> {
        use std::arch::is_x86_feature_detected as has;
        let second = [
            ("cx16", has!("cmpxchg16b")),
            ("sse3", has!("sse3")),
            ("ssse3", has!("ssse3")),
            ("sse4_1", has!("sse4.1")),
            ("sse4_2", has!("sse4.2")),
            ("popcnt", has!("popcnt")),
        ];
        let third = [
            ("avx", has!("avx")),
            ("avx2", has!("avx2")),
            ("bmi1", has!("bmi1")),
            ("bmi2", has!("bmi2")),
            ("fma", has!("fma")),
            ("lzcnt", has!("lzcnt")),
        ];
        let fourth = [("avx512dq", has!("avx512dq")), ("avx512vl", has!("avx512vl"))];
        match self {
            Self::Native | Self::Baseline => Vec::new(),
            Self::X86V2 => second.to_vec(),
            Self::X86V3 => [second, third].concat(),
            Self::X86V4 => [&second[..], &third, &fourth].concat(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn features(self) -> Vec<(&'static str, bool)> {
        match self {
            Self::Native | Self::Baseline => Vec::new(),
            Self::X86V2 | Self::X86V3 | Self::X86V4 => vec![("x86-64", false)],
        }
    }

    /// Makes an engine compile for it.
    pub(crate) fn configure(self, settings: &mut Config) -> wasmtime::Result<()> {
        if self == Self::Native {
            return Ok(());
        }
        // With a named target the engine takes nothing for granted of the processor that it runs on.
        settings.target(&wasmtime_target())?;
        if self != Self::Baseline {
            // SAFETY: the preset is for this architecture, and `missing_here` is empty: code that uses it runs here.
            #[expect(unsafe_code, reason = "a wrong flag makes code that the processor cannot run")]
            unsafe {
                settings.cranelift_flag_enable(self.as_str());
            }
        }
        Ok(())
    }
}

/// The triple of this program.
fn wasmtime_target() -> String {
    let environment = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-unknown-linux-{environment}", std::env::consts::ARCH)
}
