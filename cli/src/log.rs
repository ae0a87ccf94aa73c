//! The log as JSON, one object a line: `ts`, `level`, `target`, `message`, and the other fields by their names; `trace_id` and
//! `span_id` where the line is of a trace.

use serde_json::{Map, Value, json};
use std::fmt::{self, Debug};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime as Rfc3339};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as JSON.
pub struct JsonLines;

/// Collects the fields of an event.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, json!(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_string(), value);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for JsonLines {
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut ts = String::new();
        Rfc3339.format_time(&mut Writer::new(&mut ts))?;
        let meta = event.metadata();
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        let head = json!({"ts": ts, "level": meta.level().to_string(), "target": meta.target(), "message": message});
        let Value::Object(mut line) = head else { return Err(fmt::Error) };
        // A field may not pass for a part of the head.
        fields.0.retain(|name, _| !line.contains_key(name));
        line.append(&mut fields.0);
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_and_hostile_text_stays_in_its_field() {
        let written = Written::default();
        let to = written.clone();
        let log = tracing_subscriber::fmt().with_writer(move || to.clone()).event_format(JsonLines).finish();
        tracing::subscriber::with_default(log, || {
            tracing::warn!(trace_id = "4bf9", bytes = 3, peer = %"a\"\n{\"level\":\"x\"}", level = "mine", "refused a stream");
        });
        let text = String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("UTF-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&line["level"], &line["message"]), (&json!("WARN"), &json!("refused a stream")));
        assert_eq!((&line["trace_id"], &line["bytes"]), (&json!("4bf9"), &json!(3)));
        assert_eq!(line["peer"], json!("a\"\n{\"level\":\"x\"}"));
        assert!(line["ts"].as_str().is_some_and(|ts| ts.len() > 20) && line["target"].is_string(), "{line}");
    }
}
