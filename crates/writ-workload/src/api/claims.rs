//! Claims as a protocol-buffer structure.

use serde_json::{Map, Value};

use crate::proto::google::protobuf::value::Kind;
use crate::proto::google::protobuf::{ListValue, NullValue, Struct, Value as Field};

/// The claims, member by member. Numbers become doubles, as the protocol has no others.
pub(super) fn message(claims: Map<String, Value>) -> Struct {
    Struct { fields: claims.into_iter().map(|(name, value)| (name, field(value))).collect() }
}

fn field(value: Value) -> Field {
    let kind = match value {
        Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        Value::Bool(is) => Kind::BoolValue(is),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(field).collect() })
        }
        Value::Object(members) => Kind::StructValue(message(members)),
    };
    Field { kind: Some(kind) }
}
