//! The event's fixed shape: every key is there on every trigger, so that strict templates hold.

use serde_json::{Value, json};

/// The shape of an event, all nulls but its kind.
pub fn event_shape() -> Value {
    json!({
        "kind": "manual",
        "action": null,
        "actor": null,
        "repository": null,
        "ref": null,
        "sha": null,
        "label": null,
        "command": { "name": null, "text": null },
        "change": {
            "number": null, "title": null, "body": null, "author": null, "url": null, "draft": null, "labels": null,
            "files": null, "coverage": null, "diff": null, "since": null, "earlier": null,
            "head": { "ref": null, "sha": null, "repository": null },
            "base": { "ref": null, "sha": null, "repository": null }
        },
        "issue": { "number": null, "title": null, "body": null, "author": null, "url": null, "labels": null },
        "comment": { "id": null, "body": null, "author": null, "url": null },
        "push": { "before": null, "after": null, "branch": null, "tag": null },
        "schedule": { "cron": null, "at": null },
        "webhook": { "event": null, "payload": null }
    })
}

/// `event` over the fixed shape: what it has is kept, what it lacks is null.
pub fn shaped(event: &Value) -> Value {
    let mut shape = event_shape();
    lay_over(&mut shape, event, 0);
    shape
}

fn lay_over(under: &mut Value, over: &Value, depth: usize) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) if depth < 8 => {
            for (key, value) in over {
                lay_over(under.entry(key).or_insert(Value::Null), value, depth + 1);
            }
        }
        // Null never flattens a part of the shape.
        (_, Value::Null) => {}
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_the_shape_and_its_own_values() {
        let event = shaped(&json!({ "kind": "push", "change": null, "issue": { "number": 4 }, "extra": [1] }));
        assert_eq!(event["kind"], "push");
        assert_eq!(event["change"]["head"]["sha"], Value::Null);
        assert!(event["change"].is_object());
        assert_eq!(
            event["issue"],
            json!({ "number": 4, "title": null, "body": null, "author": null, "url": null, "labels": null })
        );
        assert_eq!(event["extra"], json!([1]));
        assert_eq!(shaped(&Value::Null), event_shape());
    }
}
