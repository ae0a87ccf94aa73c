//! What a node is told of traces: which are sampled, and where they go. Named by OpenTelemetry's variables, which the command
//! line reads.

use timerose_core::span::Context;

/// What is told of traces, and to whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TelemetryConfig {
    /// The URL that spans are sent to by OTLP over HTTP, in protobuf; none: they are kept here alone.
    pub endpoint: Option<String>,
    /// Which traces are sent.
    pub sampler: Sampler,
    /// What is said of the node with them, such as `service.name`.
    pub resource: Vec<(String, String)>,
}

/// Which traces are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whether a request that brings a trace along has decided.
    parent_based: bool,
    /// The share of the others, of 2^63.
    share: u64,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { parent_based: true, share: WHOLE }
    }
}

const WHOLE: u64 = 1 << 63;

impl Sampler {
    /// The sampler that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn named(name: &str, arg: Option<&str>) -> Result<Sampler, String> {
        let (parent_based, kind) = name.strip_prefix("parentbased_").map_or((false, name), |kind| (true, kind));
        let share = match kind {
            "always_on" => WHOLE,
            "always_off" => 0,
            "traceidratio" => {
                let ratio: f64 = arg.map_or(Ok(1.0), |arg| arg.trim().parse().map_err(|_| format!("{arg:?} is no ratio")))?;
                if !(0.0..=1.0).contains(&ratio) {
                    return Err(format!("{ratio} is no ratio between 0 and 1"));
                }
                (ratio * WHOLE as f64) as u64
            }
            _ => return Err(format!("there is no sampler {name:?}")),
        };
        Ok(Sampler { parent_based, share })
    }

    /// Whether nothing is traced at all, nor kept: `always_off`.
    pub(super) fn is_off(&self) -> bool {
        !self.parent_based && self.share == 0
    }

    /// Whether a trace is sampled: by whoever began it, or by its id, so that all nodes decide alike.
    pub(super) fn samples(&self, cause: Option<&Context>, trace: &[u8; 16]) -> bool {
        match cause {
            Some(cause) if self.parent_based => cause.sampled,
            _ => {
                let low = trace[8..].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
                low >> 1 < self.share
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_are_those_of_opentelemetry() {
        let trace = [0x40; 16];
        let cause = |sampled| Context { trace, span: [1; 8], sampled };
        let decides = |name: &str, arg| {
            let sampler = Sampler::named(name, arg).expect("a sampler");
            [None, Some(false), Some(true)].map(|said| sampler.samples(said.map(cause).as_ref(), &trace))
        };
        assert_eq!(decides("always_on", None), [true; 3]);
        assert_eq!(decides("always_off", None), [false; 3]);
        assert_eq!(decides("parentbased_always_on", None), [true, false, true]);
        assert_eq!(decides("parentbased_always_off", None), [false, false, true]);
        // The id is a quarter of the way.
        assert_eq!(decides("traceidratio", Some("0.2")), [false; 3]);
        assert_eq!(decides("traceidratio", Some("0.3")), [true; 3]);
        assert_eq!(decides("parentbased_traceidratio", Some("0.2")), [false, false, true]);
        assert!(Sampler::named("sometimes", None).is_err() && Sampler::named("traceidratio", Some("2")).is_err());
        assert!(Sampler::named("always_off", None).expect("one").is_off());
        assert!(!Sampler::named("parentbased_always_off", None).expect("one").is_off());
    }
}
