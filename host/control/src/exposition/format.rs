//! Which of the two texts a scraper wants, and how one becomes the other.

use std::fmt::Write as _;

use hyper::header::{ACCEPT, HeaderMap};

/// A text for figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4, which everything reads.
    Prometheus,
}

impl Format {
    /// What the header `Accept` likes best of the two; Prometheus when it likes neither.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        let mut best = (Self::Prometheus, 0.0);
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            if let Some((format, quality)) = Self::of(range)
                && quality > best.1
            {
                best = (format, quality);
            }
        }
        best.0
    }

    /// The format that a media range names, and how much it is wanted.
    fn of(range: &str) -> Option<(Self, f32)> {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next()?.to_ascii_lowercase();
        let (mut version, mut quality) = (None, 1.0);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                "q" => quality = value.trim().parse().ok()?,
                _ => {}
            }
        }
        let format = match (kind.as_str(), version.as_deref()) {
            ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Self::OpenMetrics,
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Self::Prometheus,
            _ => return None,
        };
        Some((format, quality))
    }

    /// Scrapers choose their parser by it.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A text of OpenMetrics as one of Prometheus: names of families have the suffix of their samples, there are no
/// units and no end, and what is no type there is a gauge.
pub(super) fn to_prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            // The type comes after it, and says which suffix the name has.
            help = said.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "gauge" | "histogram" => ("", kind),
                _ => ("", "untyped"),
            };
            if let Some((_, said)) = help.take() {
                let _ = writeln!(text, "# HELP {name}{suffix} {said}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Format::asked(&headers)
    }

    #[test]
    fn a_scraper_gets_what_it_likes_best_and_others_what_everything_reads() {
        use Format::{OpenMetrics, Prometheus};
        assert_eq!(Format::asked(&HeaderMap::new()), Prometheus);
        // What Prometheus 3 asks.
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,\
                          text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (prometheus, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.9", OpenMetrics),
            ("application/openmetrics-text;q=0.1, text/plain;version=0.0.4", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;version=2.0.0", Prometheus),
            ("application/openmetrics-text;q=x", Prometheus),
            ("application/vnd.google.protobuf", Prometheus),
            ("text/html,*/*;q=0.8", Prometheus),
            ("", Prometheus),
            (",;,=;q", Prometheus),
        ] {
            assert_eq!(asked(accept), expected, "{accept}");
        }
    }

    #[test]
    fn families_are_named_as_their_samples() {
        let openmetrics = "# HELP a Says a.\n# TYPE a counter\n# UNIT a seconds\na_total 1\n\
                           # HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n# TYPE c gauge\nc 2\n# EOF\n";
        let prometheus = "# HELP a_total Says a.\n# TYPE a_total counter\na_total 1\n\
                          # HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# TYPE c gauge\nc 2\n";
        assert_eq!(to_prometheus(openmetrics), prometheus);
    }
}
