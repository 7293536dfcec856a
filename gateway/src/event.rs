//! `ResultReadyEventType`: a part has its result.

use crate::types::{RESULT_FIELDS, RESULT_READY};
use opcua::nodes::{BaseEventType, Event, EventField};
use opcua::types::{AttributeId, DateTime, NodeId, NumericRange, QualifiedName, Variant};

/// A result as an event.
pub struct ResultReady {
    base: BaseEventType,
    /// Values of [`RESULT_FIELDS`].
    fields: Vec<Variant>,
}

impl ResultReady {
    /// Of a result, whose `fields` are in the order of [`RESULT_FIELDS`]; `vision` is the types' namespace.
    pub fn new(
        vision: u16,
        source: (&NodeId, &str),
        id: &str,
        message: String,
        time: DateTime,
        fields: Vec<Variant>,
    ) -> Self {
        let kind = NodeId::new(vision, RESULT_READY);
        let base = BaseEventType::new(kind, id.as_bytes().into(), message, time)
            .set_source_node(source.0.clone())
            .set_source_name(source.1.into())
            .set_severity(100);
        ResultReady { base, fields }
    }
}

impl EventField for ResultReady {
    fn get_value(
        &self,
        attribute: AttributeId,
        range: &NumericRange,
        path: &[QualifiedName],
    ) -> Variant {
        let own = |name: &QualifiedName| {
            let place = RESULT_FIELDS
                .iter()
                .position(|(field, ..)| name.name.as_ref() == *field);
            place.filter(|_| name.namespace_index == self.base.event_type.namespace)
        };
        match path {
            [name] if attribute == AttributeId::Value => match own(name) {
                Some(place) => self.fields[place].get_value(attribute, range, &[]),
                None => self.base.get_value(attribute, range, path),
            },
            _ => Variant::Empty,
        }
    }
}

impl Event for ResultReady {
    // By name, whichever of its types a client asks for it by.
    fn get_field(
        &self,
        _type_definition: &NodeId,
        attribute: AttributeId,
        range: &NumericRange,
        path: &[QualifiedName],
    ) -> Variant {
        self.get_value(attribute, range, path)
    }

    fn time(&self) -> &DateTime {
        &self.base.time
    }

    fn event_type_id(&self) -> &NodeId {
        &self.base.event_type
    }
}
