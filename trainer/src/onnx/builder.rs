//! A graph built node by node.

use std::collections::HashMap;
use std::fmt;

use half::f16;
use prost::Message as _;

use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// File format version. Every runtime that knows opset 20 reads it, and nothing newer is used.
const IR_VERSION: i64 = 10;

/// `TensorProto.DataType` of the elements that graphs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Element {
    /// 32-bit float.
    F32 = 1,
    /// Signed byte.
    I8 = 3,
    /// 64-bit integer.
    I64 = 7,
    /// 16-bit float.
    F16 = 10,
}

/// Name of a tensor inside the graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Value(String);

impl Value {
    /// The input of a node that is left out.
    pub fn none() -> Self {
        Self(String::new())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A dimension of a graph's input or output.
#[derive(Debug, Clone, Copy)]
pub enum Dim {
    /// Known when the graph is written.
    Size(usize),
    /// Known when it runs.
    Name(&'static str),
}

/// Value of a node's attribute.
#[derive(Debug, Clone)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A list of integers.
    Ints(Vec<i64>),
}

impl Attribute {
    fn named(self, name: &str) -> AttributeProto {
        let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
        match self {
            Self::Float(value) => (proto.f, proto.kind) = (Some(value), Some(1)),
            Self::Int(value) => (proto.i, proto.kind) = (Some(value), Some(2)),
            Self::Ints(values) => (proto.ints, proto.kind) = (values, Some(7)),
        }
        proto
    }
}

/// Builds one model of one graph.
pub struct GraphBuilder {
    graph: GraphProto,
    opset: u32,
    next_value: usize,
    /// Values that leave the graph under a name of their own.
    outputs: HashMap<String, String>,
    /// Shared small constants, by element type, shape and bytes.
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), Value>,
}

impl GraphBuilder {
    /// An empty graph in ONNX's own operator set at version `opset`.
    pub fn new(name: &str, opset: u32) -> Self {
        let graph = GraphProto { name: Some(name.to_owned()), ..GraphProto::default() };
        Self { graph, opset, next_value: 0, outputs: HashMap::new(), constants: HashMap::new() }
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, element: Element, shape: &[Dim]) -> Value {
        self.graph.input.push(value_info(name, element, shape));
        Value(name.to_owned())
    }

    /// Declares an output: what a node makes, under another name. Each value leaves the graph once.
    pub fn output(&mut self, name: &str, value: &Value, element: Element, shape: &[Dim]) {
        self.outputs.insert(value.0.clone(), name.to_owned());
        self.graph.output.push(value_info(name, element, shape));
    }

    /// Adds a named constant. `bytes` are little-endian elements.
    pub fn initializer(&mut self, name: &str, element: Element, shape: &[usize], bytes: Vec<u8>) -> Value {
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&size| size as i64).collect(),
            data_type: Some(element as i32),
            name: Some(name.to_owned()),
            raw_data: Some(bytes),
        });
        Value(name.to_owned())
    }

    /// Adds a named constant of floats, stored as `element`: [`Element::F32`] or [`Element::F16`].
    pub fn floats(&mut self, name: &str, element: Element, shape: &[usize], values: &[f32]) -> Value {
        self.initializer(name, element, shape, float_bytes(element, values))
    }

    /// A small constant of floats; equal ones are stored once.
    pub fn constant(&mut self, element: Element, shape: &[usize], values: &[f32]) -> Value {
        self.shared(element, shape, float_bytes(element, values))
    }

    /// A small constant of integers; equal ones are stored once. `shape` is `[]` for a scalar.
    pub fn integers(&mut self, shape: &[usize], values: &[i64]) -> Value {
        self.shared(Element::I64, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn shared(&mut self, element: Element, shape: &[usize], bytes: Vec<u8>) -> Value {
        let key = (element as i32, shape.iter().map(|&size| size as i64).collect(), bytes);
        if let Some(value) = self.constants.get(&key) {
            return value.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        let value = self.initializer(&name, element, shape, key.2.clone());
        self.constants.insert(key, value.clone());
        value
    }

    /// Adds an operation with one output.
    pub fn node(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        self.node_with(operator, inputs, Vec::new())
    }

    /// Adds an operation with attributes and one output.
    pub fn node_with(&mut self, operator: &str, inputs: &[&Value], attributes: Vec<(&str, Attribute)>) -> Value {
        let name = self.fresh_name(operator);
        self.push(operator, inputs, vec![name.clone()], attributes);
        Value(name)
    }

    /// Adds an operation with several outputs.
    pub fn node_multi<const N: usize>(&mut self, operator: &str, inputs: &[&Value]) -> [Value; N] {
        let names: [String; N] = std::array::from_fn(|_| self.fresh_name(operator));
        self.push(operator, inputs, names.to_vec(), Vec::new());
        names.map(Value)
    }

    fn fresh_name(&mut self, operator: &str) -> String {
        self.next_value += 1;
        format!("{}_{}", operator.to_lowercase(), self.next_value)
    }

    fn push(&mut self, operator: &str, inputs: &[&Value], output: Vec<String>, attributes: Vec<(&str, Attribute)>) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            name: Some(format!("node_{}_{operator}", self.graph.node.len())),
            output,
            op_type: Some(operator.to_owned()),
            attribute: attributes.into_iter().map(|(name, attribute)| attribute.named(name)).collect(),
        });
    }

    /// The finished file.
    pub fn finish(mut self) -> Vec<u8> {
        // Renamed at the end, so that handles stay good until then; an `Identity` node would copy every output.
        for node in &mut self.graph.node {
            for name in node.input.iter_mut().chain(&mut node.output) {
                if let Some(output) = self.outputs.get(name) {
                    name.clone_from(output);
                }
            }
        }
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("astromech-trainer".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(i64::from(self.opset)) }],
        };
        model.encode_to_vec()
    }
}

fn float_bytes(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn value_info(name: &str, element: Element, shape: &[Dim]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|dim| {
            let value = match dim {
                Dim::Size(size) => DimensionValue::Size(*size as i64),
                Dim::Name(name) => DimensionValue::Name((*name).to_owned()),
            };
            DimensionProto { value: Some(value) }
        })
        .collect();
    let tensor_type = TensorTypeProto { elem_type: Some(element as i32), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn equal_constants_are_stored_once_and_a_zero_attribute_is_written() {
        let mut graph = GraphBuilder::new("g", 20);
        let x = graph.input("x", Element::F32, &[Dim::Name("batch"), Dim::Size(2)]);
        let a = graph.constant(Element::F32, &[], &[1.5]);
        assert_eq!(a, graph.constant(Element::F32, &[], &[1.5]));
        assert_ne!(a, graph.constant(Element::F32, &[1], &[1.5]));
        let index = graph.integers(&[], &[0]);
        let y = graph.node_with("Gather", &[&x, &index], vec![("axis", Attribute::Int(0))]);
        graph.output("y", &y, Element::F32, &[Dim::Size(2)]);
        let model = ModelProto::decode(graph.finish().as_slice()).unwrap();
        let graph = model.graph.unwrap();
        assert_eq!(graph.initializer.len(), 3);
        assert_eq!(graph.node[0].attribute[0].i, Some(0));
        assert_eq!(graph.node.last().unwrap().output, ["y"]);
    }

    #[test]
    fn floats_are_rounded_to_the_nearest_half() {
        assert_eq!(float_bytes(Element::F16, &[1.0, 1e-3]), [0x00, 0x3c, 0x19, 0x14]);
    }
}
