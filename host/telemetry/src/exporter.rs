//! OpenTelemetry's exporter, on connections of ours.

use std::collections::HashMap;

use opentelemetry_otlp::{
    Compression, ExporterBuildError, Protocol as Otlp, SpanExporter as OtlpExporter,
    WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;

use crate::settings::{Error, Protocol, Settings};
use crate::transport::Client;

/// Sends spans by OTLP.
#[derive(Debug)]
pub(crate) struct Exporter {
    otlp: OtlpExporter,
    /// Knows why it failed: what the exporter says is only that it did.
    client: Client,
}

impl Exporter {
    /// Has to be called where tasks can be spawned.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let client = Client::new(settings.connector.clone(), settings.to.clone(), settings.timeout);
        let otlp = match settings.protocol {
            Protocol::HttpProtobuf => over_http(settings, client.clone()),
            Protocol::Grpc => over_grpc(settings, client.clone()),
        };
        Ok(Self { otlp: otlp.map_err(|error| Error::Exporter(error.to_string()))?, client })
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.otlp.export(batch).await;
        let why = self.client.take_fault();
        exported.map_err(|error| match (error, why) {
            (OTelSdkError::InternalFailure(_), Some(why)) => OTelSdkError::InternalFailure(why),
            (error, _) => error,
        })
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

fn over_http(settings: &Settings, client: Client) -> Result<OtlpExporter, ExporterBuildError> {
    let headers = settings.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let mut builder = OtlpExporter::builder().with_http();
    if settings.gzip {
        builder = builder.with_compression(Compression::Gzip);
    }
    builder
        .with_http_client(client)
        .with_protocol(Otlp::HttpBinary)
        .with_endpoint(settings.url.to_string())
        .with_headers(headers.collect::<HashMap<_, _>>())
        .with_timeout(settings.timeout)
        .build()
}

fn over_grpc(settings: &Settings, client: Client) -> Result<OtlpExporter, ExporterBuildError> {
    let endpoint = Endpoint::from(settings.url.clone()).timeout(settings.timeout);
    let mut builder = OtlpExporter::builder().with_tonic();
    if settings.gzip {
        builder = builder.with_compression(Compression::Gzip);
    }
    builder
        .with_channel(endpoint.connect_with_connector_lazy(client))
        .with_metadata(MetadataMap::from_headers(settings.headers.clone()))
        .with_timeout(settings.timeout)
        .build()
}
