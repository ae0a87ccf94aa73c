//! OpenTelemetry's variables: what a node is told of traces, by the names that its users know.

use timerose_node::{Sampler, TelemetryConfig};

use crate::error::CliError;

/// Where OTLP over HTTP takes spans, below an endpoint.
const PATH: &str = "/v1/traces";
/// The protocol that is spoken.
const PROTOCOL: &str = "http/protobuf";

/// Reads the variables of this process.
pub fn read() -> Result<TelemetryConfig, CliError> {
    read_from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn read_from(value: impl Fn(&str) -> Option<String>) -> Result<TelemetryConfig, CliError> {
    let endpoint = match value("OTEL_EXPORTER_OTLP_ENDPOINT") {
        None => None,
        Some(_) if value("OTEL_SDK_DISABLED").as_deref() == Some("true") => None,
        Some(endpoint) if !endpoint.starts_with("http://") => {
            let hint = "spans go over plain HTTP, to a collector of your own network: http://127.0.0.1:4318";
            return Err(CliError::usage(format!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint} is not supported"), hint));
        }
        Some(endpoint) => Some(format!("{}{PATH}", endpoint.trim_end_matches('/'))),
    };
    if let Some(protocol) = value("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|protocol| protocol != PROTOCOL) {
        let hint = format!("{PROTOCOL} is; collectors take it at port 4318");
        return Err(CliError::usage(format!("OTEL_EXPORTER_OTLP_PROTOCOL={protocol} is not supported"), hint));
    }
    let sampler = match value("OTEL_TRACES_SAMPLER") {
        None => Sampler::default(),
        Some(name) => Sampler::named(&name, value("OTEL_TRACES_SAMPLER_ARG").as_deref()).map_err(|why| {
            let hint =
                "always_on, always_off, traceidratio, or one of these after parentbased_; a ratio as OTEL_TRACES_SAMPLER_ARG";
            CliError::usage(format!("OTEL_TRACES_SAMPLER: {why}"), hint)
        })?,
    };
    let mut resource = vec![("service.name".to_string(), "timerose".to_string())];
    for pair in value("OTEL_RESOURCE_ATTRIBUTES").iter().flat_map(|all| all.split(',')).filter(|pair| !pair.trim().is_empty()) {
        let Some((key, text)) = pair.split_once('=') else {
            let hint = "such as deployment.environment.name=test,team=roses";
            return Err(CliError::usage(format!("OTEL_RESOURCE_ATTRIBUTES: {pair:?} is no key=value"), hint));
        };
        put(&mut resource, key.trim(), decoded(text.trim()));
    }
    if let Some(name) = value("OTEL_SERVICE_NAME") {
        put(&mut resource, "service.name", name);
    }
    Ok(TelemetryConfig { endpoint, sampler, resource })
}

fn put(resource: &mut Vec<(String, String)>, key: &str, value: String) {
    resource.retain(|(other, _)| other != key);
    resource.push((key.to_string(), value));
}

/// A value as W3C Baggage writes it: what is not plain stands as `%` and two hexadecimal digits.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, others @ ..] = rest {
        let code = match (first, others) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Result<TelemetryConfig, CliError> {
        read_from(|name| vars.iter().find(|(var, _)| *var == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn the_variables_of_opentelemetry_are_understood() {
        assert_eq!(of(&[]).expect("nothing is set").endpoint, None);
        let config = of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_SERVICE_NAME", "roses"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other, team=a%20b%2,x=1"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ]);
        let config = config.expect("all is right");
        assert_eq!(config.endpoint.as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
        let pairs = [("team", "a b%2"), ("x", "1"), ("service.name", "roses")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(config.resource, pairs);
        assert_eq!(config.sampler, Sampler::named("traceidratio", Some("0.5")).expect("a sampler"));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_RESOURCE_ATTRIBUTES", "nothing"),
        ] {
            let error = of(&[(name, value)]).expect_err("refused");
            assert!(error.message.starts_with(name) && !error.hint.is_empty(), "{}", error.message);
        }
    }
}
