//! A writer's schema, made ready for reading: names resolved, types by number.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, UuidSchema};

/// Index of a type.
pub(crate) type TypeId = usize;

/// One type, as it is written and as it becomes JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    Null,
    Boolean,
    /// Also dates and times of day, which stay what they are: days, milliseconds.
    Int,
    Long,
    Float,
    Double,
    /// Also decimals: their unscaled bytes.
    Bytes,
    String,
    /// Of so many bytes; also decimals and durations.
    Fixed(usize),
    /// 16 bytes that are a UUID, and whether their length is written before them.
    Uuid {
        prefixed: bool,
    },
    /// A time in parts of a second, this many a millisecond.
    Time(i64),
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(String, TypeId)>),
}

/// The schema that a record was written with.
#[derive(Debug, Clone, PartialEq)]
pub struct WriterSchema {
    pub(crate) types: Vec<Type>,
    pub(crate) root: TypeId,
}

impl WriterSchema {
    /// Parses a schema and those that it refers to, in any order.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn parse(schema: &str, references: &[String]) -> Result<Self, String> {
        crate::names::accept_any();
        let (root, others) = Schema::parse_str_with_list(schema, references).map_err(|e| e.to_string())?;
        let mut named = HashMap::new();
        for schema in others.iter().chain([&root]) {
            collect(schema, None, &mut named);
        }
        let mut compiler = Compiler { named, done: HashMap::new(), types: Vec::new() };
        let root = compiler.compile(&root, None)?;
        Ok(Self { types: compiler.types, root })
    }
}

/// Every named type by its full name.
fn collect<'s>(schema: &'s Schema, namespace: Option<&str>, named: &mut HashMap<Name, &'s Schema>) {
    if let (Some(name), false) = (schema.name(), matches!(schema, Schema::Ref { .. })) {
        named.entry(name.fully_qualified_name(namespace).into_owned()).or_insert(schema);
    }
    match schema {
        Schema::Array(array) => collect(&array.items, namespace, named),
        Schema::Map(map) => collect(&map.types, namespace, named),
        Schema::Union(union) => union.variants().iter().for_each(|variant| collect(variant, namespace, named)),
        Schema::Record(record) => {
            let name = record.name.fully_qualified_name(namespace);
            record.fields.iter().for_each(|field| collect(&field.schema, name.namespace(), named));
        }
        _ => {}
    }
}

struct Compiler<'s> {
    named: HashMap<Name, &'s Schema>,
    done: HashMap<Name, TypeId>,
    types: Vec<Type>,
}

impl Compiler<'_> {
    fn push(&mut self, made: Type) -> TypeId {
        self.types.push(made);
        self.types.len() - 1
    }

    fn compile(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<TypeId, String> {
        if let Schema::Ref { name } = schema {
            let name = name.fully_qualified_name(namespace).into_owned();
            if let Some(id) = self.done.get(&name) {
                return Ok(*id);
            }
            let Some(target) = self.named.get(&name).copied() else {
                return Err(format!("the type {} is defined nowhere", name.fullname(None)));
            };
            return self.compile(target, name.namespace());
        }
        let name = schema.name().map(|name| name.fully_qualified_name(namespace).into_owned());
        if let Some(id) = name.as_ref().and_then(|name| self.done.get(name)) {
            return Ok(*id);
        }
        // Its place is taken first: what is inside it may refer to it.
        let id = self.push(Type::Null);
        let namespace = name.as_ref().map_or(namespace, |name| name.namespace()).map(str::to_owned);
        self.done.extend(name.map(|name| (name, id)));
        self.types[id] = self.made(schema, namespace.as_deref())?;
        Ok(id)
    }

    fn made(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<Type, String> {
        Ok(match schema {
            Schema::Null => Type::Null,
            Schema::Boolean => Type::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Type::Int,
            Schema::Long | Schema::TimeMicros => Type::Long,
            Schema::TimestampMillis | Schema::LocalTimestampMillis => Type::Time(1),
            Schema::TimestampMicros | Schema::LocalTimestampMicros => Type::Time(1000),
            Schema::TimestampNanos | Schema::LocalTimestampNanos => Type::Time(1_000_000),
            Schema::Float => Type::Float,
            Schema::Double => Type::Double,
            Schema::Bytes | Schema::BigDecimal => Type::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Type::String,
            Schema::Uuid(UuidSchema::Bytes) => Type::Uuid { prefixed: true },
            Schema::Uuid(UuidSchema::Fixed(fixed)) if fixed.size == 16 => Type::Uuid { prefixed: false },
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => Type::Fixed(fixed.size),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Type::Bytes,
                InnerDecimalSchema::Fixed(fixed) => Type::Fixed(fixed.size),
            },
            Schema::Enum(symbols) => Type::Enum(symbols.symbols.clone()),
            Schema::Array(array) => Type::Array(self.compile(&array.items, namespace)?),
            Schema::Map(map) => Type::Map(self.compile(&map.types, namespace)?),
            Schema::Union(union) => {
                let variants = union.variants().iter().map(|variant| self.compile(variant, namespace));
                Type::Union(variants.collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => {
                let field = |field: &apache_avro::schema::RecordField| {
                    Ok::<_, String>((field.name.clone(), self.compile(&field.schema, namespace)?))
                };
                Type::Record(record.fields.iter().map(field).collect::<Result<_, _>>()?)
            }
            Schema::Ref { name } => return Err(format!("the type {} refers to itself", name.fullname(None))),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_other_schemas_in_their_namespaces_and_in_the_type_itself() {
        let picture = r#"{"type":"record","name":"Picture","namespace":"a.b","fields":[{"name":"url","type":"string"}]}"#;
        let node = r#"{"type":"record","name":"Node","namespace":"a.b","fields":[
            {"name":"picture","type":"Picture"}, {"name":"again","type":["null","a.b.Picture"]}, {"name":"next","type":["null","Node"]}]}"#;
        let schema = WriterSchema::parse(node, &[picture.to_owned()]).unwrap();
        let Type::Record(fields) = &schema.types[schema.root] else { panic!("{schema:?}") };
        let (Type::Union(again), Type::Union(next)) = (&schema.types[fields[1].1], &schema.types[fields[2].1]) else {
            panic!("{schema:?}")
        };
        assert_eq!(again[1], fields[0].1);
        assert_eq!(next[1], schema.root);
    }

    #[test]
    fn names_that_connect_and_debezium_register_are_read() {
        let source = r#"{"type":"record","name":"Source","namespace":"cdc-server-01.inventory","fields":[{"name":"db-name","type":"string"}]}"#;
        let envelope = r#"{"type":"record","name":"Envelope","namespace":"cdc-server-01.inventory","fields":[
            {"name":"source","type":"cdc-server-01.inventory.Source"}, {"name":"again","type":["null","Source"]},
            {"name":"op","type":{"type":"enum","name":"Op-Code","symbols":["c-1","更新"]}},
            {"name":"$more","type":{"type":"record","name":"1st.of.Many","fields":[]}}]}"#;
        let schema = WriterSchema::parse(envelope, &[source.to_owned()]).unwrap();
        let Type::Record(fields) = &schema.types[schema.root] else { panic!("{schema:?}") };
        assert_eq!(
            schema.types[fields[0].1],
            Type::Record(vec![("db-name".to_owned(), schema.types.iter().position(|t| *t == Type::String).unwrap())])
        );
        let Type::Union(again) = &schema.types[fields[1].1] else { panic!("{schema:?}") };
        assert_eq!(again[1], fields[0].1);
        assert_eq!(schema.types[fields[2].1], Type::Enum(vec!["c-1".to_owned(), "更新".to_owned()]));
        for name in ["a..b", "a b", ""] {
            let text = format!(r#"{{"type":"record","name":"{name}","fields":[]}}"#);
            assert!(WriterSchema::parse(&text, &[]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_schema_that_is_none_says_why() {
        for text in ["", "{}", r#"{"type":"record","name":"A","fields":[{"name":"p","type":"Nowhere"}]}"#, r#""unheard-of""#] {
            assert!(!WriterSchema::parse(text, &[]).unwrap_err().is_empty(), "{text}");
        }
    }
}
