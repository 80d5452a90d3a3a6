//! What OpenTelemetry's variables say. A value that cannot be used is an error that names its variable, and none is
//! passed over in silence.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bulkhead_net::{Connector, Destination, Proxies, Trust};
use bulkhead_types::error::chain;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use crate::conventions::Conventions;

/// Largest of any duration, in milliseconds: an hour.
const MAX_MS: u64 = 3_600_000;

/// Most spans that may wait.
const MAX_QUEUE: usize = 65_536;

/// What is sent where. The values of headers and proxies are not printed.
pub struct Settings {
    pub(crate) protocol: Protocol,
    pub(crate) to: Destination,
    /// With the path, for HTTP.
    pub(crate) url: Uri,
    pub(crate) headers: HeaderMap,
    /// Of one attempt, and of all attempts for one batch.
    pub(crate) timeout: Duration,
    /// Whether batches are compressed.
    pub(crate) gzip: bool,
    pub(crate) connector: Connector,
    pub(crate) batches: Batches,
    pub(crate) resource: Vec<(String, String)>,
    pub(crate) sampler: Sampler,
    pub(crate) conventions: Conventions,
    /// Whether prompts and answers are recorded.
    pub(crate) content: bool,
}

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    HttpProtobuf,
    Grpc,
}

/// How many spans go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batches {
    /// Spans that may wait.
    pub queue: usize,
    /// Spans of one request.
    pub size: usize,
    /// How long the first one waits for others.
    pub delay: Duration,
    /// How long one batch may take.
    pub timeout: Duration,
}

/// Why there is no telemetry although somebody asked for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable has a value that cannot be used. No value that could be a secret is quoted.
    #[error("{variable}: {problem}")]
    Variable {
        /// Which.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A variable of a proxy has one.
    #[error(transparent)]
    Proxy(#[from] bulkhead_net::ProxyError),
    /// The exporter refuses what the variables say.
    #[error("the exporter cannot be built: {0}")]
    Exporter(String),
    /// The system grants no thread, or none that can wait for connections.
    #[error("the thread that sends spans cannot be started")]
    Thread(#[source] io::Error),
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("protocol", &self.protocol)
            .field("url", &self.url)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("batches", &self.batches)
            .field("sampler", &self.sampler)
            .field("conventions", &self.conventions)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// What the environment says; nothing unless it names a collector. Reads the file of
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE`.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Error> {
        let env = Env(variable);
        if !env.is_on()? {
            return Ok(None);
        }
        let Some((endpoint_name, endpoint)) = env.either("ENDPOINT")? else { return Ok(None) };
        for unsupported in ["CLIENT_KEY", "CLIENT_CERTIFICATE"] {
            if let Some((name, _)) = env.either(unsupported)? {
                return Err(bad(name, "certificates of clients are not supported"));
            }
        }
        let protocol = env.protocol()?;
        let url = env.url(&endpoint_name, &endpoint, protocol)?;
        let to = Destination::of(&url).map_err(|error| bad(&endpoint_name, error.to_string()))?;
        let batches = env.batches()?;
        Ok(Some(Self {
            protocol,
            to,
            url,
            headers: env.headers()?,
            timeout: env.timeout()?,
            gzip: env.gzip()?,
            connector: env.connector(protocol)?,
            batches,
            resource: env.resource()?,
            sampler: env.sampler()?,
            conventions: env.conventions()?,
            content: env.content()?,
        }))
    }
}

struct Env<F>(F);

impl<F: Fn(&str) -> Option<OsString>> Env<F> {
    /// A variable without white space around it. One that is empty counts as not set.
    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match (self.0)(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(bad(name, "it is no UTF-8")),
        }
    }

    /// The variable for traces, else that for everything.
    fn either(&self, end: &str) -> Result<Option<(String, String)>, Error> {
        for begin in ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"] {
            let name = format!("{begin}{end}");
            if let Some(value) = self.text(&name)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    fn is_true(&self, name: &str) -> Result<bool, Error> {
        match self.text(name)?.map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad(name, "it has to be `true` or `false`")),
        }
    }

    fn is_on(&self) -> Result<bool, Error> {
        const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
        let exports = match self.text(EXPORTER)?.as_deref() {
            None | Some("otlp") => true,
            Some("none") => false,
            Some(_) => return Err(bad(EXPORTER, "only `otlp` and `none` are supported")),
        };
        Ok(!self.is_true("OTEL_SDK_DISABLED")? && exports)
    }

    fn protocol(&self) -> Result<Protocol, Error> {
        match self.either("PROTOCOL")?.as_ref().map(|(name, value)| (name, value.as_str())) {
            None | Some((_, "http/protobuf")) => Ok(Protocol::HttpProtobuf),
            Some((_, "grpc")) => Ok(Protocol::Grpc),
            Some((name, _)) => Err(bad(
                name,
                "only `http/protobuf`, which is the default, and `grpc` are supported",
            )),
        }
    }

    /// A variable for traces has the whole URL; that for everything is where the path begins.
    fn url(&self, name: &str, text: &str, protocol: Protocol) -> Result<Uri, Error> {
        let mut text = text.to_owned();
        if protocol == Protocol::Grpc && !text.contains("://") {
            let insecure = self.either("INSECURE")?;
            let insecure = match insecure {
                None => false,
                Some((name, _)) => self.is_true(&name)?,
            };
            text = format!("{}://{text}", if insecure { "http" } else { "https" });
        }
        if protocol == Protocol::HttpProtobuf && !name.contains("TRACES") {
            text = format!("{}/v1/traces", text.trim_end_matches('/'));
        }
        // What an address is wrong in is said without it: a password may be in it.
        text.parse()
            .map_err(|error: http::uri::InvalidUri| bad(name, format!("it is no URL: {error}")))
    }

    fn headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        let Some((name, text)) = self.either("HEADERS")? else { return Ok(headers) };
        for (key, value) in pairs(&name, &text)? {
            let parsed = (HeaderName::from_str(&key), HeaderValue::try_from(value));
            let (Ok(key), Ok(mut value)) = parsed else {
                return Err(bad(&name, "it has a name or a value that no header may have"));
            };
            value.set_sensitive(true);
            headers.append(key, value);
        }
        Ok(headers)
    }

    fn timeout(&self) -> Result<Duration, Error> {
        match self.either("TIMEOUT")? {
            None => Ok(Duration::from_secs(10)),
            Some((name, text)) => Ok(Duration::from_millis(number(&name, &text, 1, MAX_MS)?)),
        }
    }

    fn gzip(&self) -> Result<bool, Error> {
        match self.either("COMPRESSION")?.as_ref().map(|(name, value)| (name, value.as_str())) {
            None | Some((_, "none")) => Ok(false),
            Some((_, "gzip")) => Ok(true),
            Some((name, _)) => Err(bad(name, "only `gzip` and `none` are supported")),
        }
    }

    fn connector(&self, protocol: Protocol) -> Result<Connector, Error> {
        let trust = match self.either("CERTIFICATE")? {
            Some((name, path)) => {
                Trust::from_file(&PathBuf::from(path)).map_err(|error| bad(name, chain(&error)))?
            }
            None => Trust::from_env(&self.0).map_err(|(name, error)| bad(name, chain(&error)))?,
        };
        Ok(match protocol {
            Protocol::HttpProtobuf => {
                let proxies = Proxies::from_env(&self.0);
                let proxies = proxies.map_err(Error::Proxy)?;
                Connector { proxies, trust }
            }
            // A proxy that passes HTTP/1 on passes this on no further.
            Protocol::Grpc => {
                Connector { proxies: Proxies::default(), trust: trust.offering(&[b"h2"]) }
            }
        })
    }

    fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Error> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => Ok(number(name, &text, 1, max as u64)? as usize),
        }
    }

    fn millis(&self, name: &str, default: u64) -> Result<Duration, Error> {
        let ms = match self.text(name)? {
            None => default,
            Some(text) => number(name, &text, 1, MAX_MS)?,
        };
        Ok(Duration::from_millis(ms))
    }

    fn batches(&self) -> Result<Batches, Error> {
        const SIZE: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
        let queue = self.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048, MAX_QUEUE)?;
        let size = self.count(SIZE, 512.min(queue), MAX_QUEUE)?;
        if size > queue {
            let problem = format!("{size} is more than the {queue} of OTEL_BSP_MAX_QUEUE_SIZE");
            return Err(bad(SIZE, problem));
        }
        Ok(Batches {
            queue,
            size,
            delay: self.millis("OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
            timeout: self.millis("OTEL_BSP_EXPORT_TIMEOUT", 30_000)?,
        })
    }

    fn resource(&self) -> Result<Vec<(String, String)>, Error> {
        const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let mut resource = vec![
            ("service.name".to_owned(), "bulkhead".to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        if let Some(text) = self.text(ATTRIBUTES)? {
            resource.extend(pairs(ATTRIBUTES, &text)?);
        }
        resource.extend(self.text("OTEL_SERVICE_NAME")?.map(|name| ("service.name".into(), name)));
        Ok(resource)
    }

    fn sampler(&self) -> Result<Sampler, Error> {
        const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
        const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
        let ratio = || match self.text(ARG)? {
            None => Ok(Sampler::TraceIdRatioBased(1.0)),
            Some(text) => match text.parse() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Sampler::TraceIdRatioBased(ratio)),
                _ => Err(bad(ARG, "it has to be a number from 0 to 1")),
            },
        };
        let by_parent = |root| Sampler::ParentBased(Box::new(root));
        Ok(match self.text(SAMPLER)?.as_deref() {
            Some("always_on") => Sampler::AlwaysOn,
            Some("always_off") => Sampler::AlwaysOff,
            Some("traceidratio") => ratio()?,
            None | Some("parentbased_always_on") => by_parent(Sampler::AlwaysOn),
            Some("parentbased_always_off") => by_parent(Sampler::AlwaysOff),
            Some("parentbased_traceidratio") => by_parent(ratio()?),
            Some(_) => {
                let known = "it has to be always_on, always_off, traceidratio, or one of these after `parentbased_`";
                return Err(bad(SAMPLER, known));
            }
        })
    }

    /// Values of others stand in the same list and are theirs.
    fn conventions(&self) -> Result<Conventions, Error> {
        let text = self.text("OTEL_SEMCONV_STABILITY_OPT_IN")?.unwrap_or_default();
        let latest = text.split(',').any(|value| value.trim() == "gen_ai_latest_experimental");
        Ok(if latest { Conventions::Latest } else { Conventions::V1_36 })
    }

    fn content(&self) -> Result<bool, Error> {
        const CAPTURE: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
        let captures = match self.text(CAPTURE)?.map(|it| it.to_ascii_lowercase()).as_deref() {
            None | Some("false" | "no_content") => return Ok(false),
            Some("true" | "span_only") => true,
            Some(_) => {
                return Err(bad(
                    CAPTURE,
                    "it has to be `true`, `false`, `span_only` or `no_content`",
                ));
            }
        };
        if self.conventions()? != Conventions::Latest {
            let needs = "it needs OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental: before, messages were not \
                         part of spans";
            return Err(bad(CAPTURE, needs));
        }
        Ok(captures)
    }
}

fn bad(variable: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Variable { variable: variable.into(), problem: problem.into() }
}

fn number(name: &str, text: &str, min: u64, max: u64) -> Result<u64, Error> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(bad(name, format!("it has to be a whole number from {min} to {max}"))),
    }
}

/// `key=value,key=value`, percent-encoded.
fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text.trim()).decode_utf8();
        decoded.map(Into::into).map_err(|_| bad(name, "it has a value that is no UTF-8"))
    };
    let members = text.split(',').filter(|member| !member.trim().is_empty());
    members
        .map(|member| match member.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((decode(key)?, decode(value)?)),
            _ => Err(bad(name, "it has to be like key=value,key=value")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Settings::from_env(find).map_err(|error| error.to_string())
    }

    fn on(more: &[(&str, &str)]) -> Settings {
        read(&[&[ENDPOINT], more].concat()).unwrap().unwrap()
    }

    fn error(more: &[(&str, &str)]) -> String {
        read(&[&[ENDPOINT], more].concat()).unwrap_err()
    }

    #[test]
    fn it_is_off_unless_a_collector_is_named() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap().is_none());
        assert!(read(&[("OTEL_SERVICE_NAME", "a")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "false")]).unwrap().is_some());
    }

    #[test]
    fn what_is_not_said_is_as_the_specification_has_it() {
        let it = on(&[]);
        assert_eq!(it.protocol, Protocol::HttpProtobuf);
        assert_eq!(it.url, "http://collector:4318/v1/traces");
        assert_eq!(it.timeout, Duration::from_secs(10));
        let batches = Batches {
            queue: 2048,
            size: 512,
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        };
        assert_eq!(it.batches, batches);
        assert_eq!(format!("{:?}", it.sampler), "ParentBased(AlwaysOn)");
        assert_eq!((it.conventions, it.content, it.gzip), (Conventions::V1_36, false, false));
        assert_eq!(it.resource[0], ("service.name".into(), "bulkhead".into()));
    }

    #[test]
    fn a_variable_for_traces_wins_and_has_the_whole_url() {
        let it = on(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/spans"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ]);
        assert_eq!((it.url.to_string().as_str(), it.to.tls), ("https://other/spans", true));
        assert_eq!((it.timeout, it.gzip), (Duration::from_secs(2), true));
        let with_path =
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h/otlp/")]).unwrap().unwrap();
        assert_eq!(with_path.url, "http://h/otlp/v1/traces");
    }

    #[test]
    fn an_address_for_grpc_may_lack_the_scheme() {
        let grpc = |endpoint, insecure| {
            let variables = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_INSECURE", insecure),
            ];
            read(&variables).unwrap().unwrap().to
        };
        let to = |tls| Destination { host: "collector".into(), port: 4317, tls };
        assert_eq!(grpc("collector:4317", ""), to(true));
        assert_eq!(grpc("collector:4317", "true"), to(false));
        assert_eq!(grpc("http://collector:4317", "false"), to(false));
        assert!(
            error(&[
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ])
            .contains("has to begin with http:// or https://")
        );
    }

    #[test]
    fn headers_and_attributes_are_decoded_and_never_quoted() {
        let it = on(&[
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2, x-a = b ,"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=a%2Cb"),
            ("OTEL_SERVICE_NAME", "mine"),
        ]);
        assert_eq!(it.headers["authorization"], "Bearer hunter2");
        assert_eq!(it.headers["x-a"], "b");
        assert!(!format!("{it:?}").contains("hunter2"));
        let last =
            |key: &str| it.resource.iter().rfind(|(other, _)| other == key).unwrap().1.clone();
        assert_eq!(last("service.name"), "mine");
        assert_eq!(last("deployment.environment.name"), "a,b");
        let error = error(&[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")]);
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_HEADERS: ") && !error.contains("hunter2"));
    }

    #[test]
    fn a_switch_chooses_the_conventions_and_content_is_only_for_those_who_ask() {
        let switch = "OTEL_SEMCONV_STABILITY_OPT_IN";
        let capture = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
        let it = on(&[(switch, "http, gen_ai_latest_experimental")]);
        assert_eq!((it.conventions, it.content), (Conventions::Latest, false));
        assert_eq!(on(&[(switch, "http")]).conventions, Conventions::V1_36);
        for (value, captures) in [("true", true), ("SPAN_ONLY", true), ("NO_CONTENT", false)] {
            let it = on(&[(switch, "gen_ai_latest_experimental"), (capture, value)]);
            assert_eq!(it.content, captures, "{value}");
        }
        assert!(error(&[(capture, "true")]).contains("gen_ai_latest_experimental"));
    }

    #[test]
    fn samplers_have_the_names_of_the_specification() {
        for (name, arg, sampler) in [
            ("always_on", "", "AlwaysOn"),
            ("always_off", "", "AlwaysOff"),
            ("traceidratio", "0.25", "TraceIdRatioBased(0.25)"),
            ("traceidratio", "", "TraceIdRatioBased(1.0)"),
            ("parentbased_always_off", "", "ParentBased(AlwaysOff)"),
            ("parentbased_traceidratio", "0", "ParentBased(TraceIdRatioBased(0.0))"),
        ] {
            let it = on(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]);
            assert_eq!(format!("{:?}", it.sampler), sampler);
        }
    }

    #[test]
    fn what_cannot_be_used_names_its_variable() {
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "udp"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:hunter2@collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%0A"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/key.pem"),
            ("SSL_CERT_FILE", "/nowhere/ca.pem"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=a"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%FF"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "x"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "65537"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2049"),
            ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY"),
        ] {
            let error = error(&[(name, value)]);
            assert!(error.starts_with(&format!("{name}: ")), "{name}={value}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for arg in ["2", "-0.1", "NaN", "half"] {
            let error =
                error(&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", arg)]);
            assert!(error.starts_with("OTEL_TRACES_SAMPLER_ARG: "), "{arg}: {error}");
        }
        let error = error(&[("HTTP_PROXY", "socks5://h:1")]);
        assert!(error.contains("HTTP_PROXY"), "{error}");
    }

    #[test]
    fn a_small_queue_has_small_batches() {
        let batches = on(&[("OTEL_BSP_MAX_QUEUE_SIZE", "10")]).batches;
        assert_eq!((batches.queue, batches.size), (10, 10));
    }
}
