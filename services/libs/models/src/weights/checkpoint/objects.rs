//! The objects of an unpickled checkpoint, kept in a flat heap and referred to by number.
//!
//! A value is a small copy, never an owner: sharing costs nothing, cycles and depth are harmless, and dropping recurses
//! nowhere. What pickle calls an object of an unknown class is an [`Value::Opaque`] with the name of its class.

use super::limits;
use super::reader::{Result, Span};
use crate::weights::Dtype;

pub(super) type Id = u32;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// `None`.
    Nothing,
    Bool(bool),
    Int(i64),
    Text(Span),
    Tuple(Id),
    List(Id),
    Dict(Id),
    /// A class or function, by its module and name.
    Global(Id),
    Storage(Id),
    Tensor(Id),
    /// Anything of no interest: floats, bytes, huge integers.
    Scalar,
    /// An object that only code could make, and therefore nobody does; of the class or function with this number.
    Opaque(Id),
}

/// Where a storage's bytes are: `data/KEY` of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    pub(super) key: Span,
    pub(super) dtype: Dtype,
    pub(super) count: usize,
}

/// The arguments of `torch._utils._rebuild_tensor_v2`.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

enum Object {
    Sequence(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(Span, Span),
    Storage(Storage),
    Tensor(Tensor),
}

pub(super) struct Heap<'a> {
    pickle: &'a [u8],
    objects: Vec<Object>,
    /// Values that all containers hold together.
    cells: usize,
}

impl<'a> Heap<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { pickle, objects: Vec::new(), cells: 0 }
    }

    fn add(&mut self, object: Object) -> Result<Id> {
        if self.objects.len() >= limits::OBJECTS {
            return Err(format!("it makes more than {} objects", limits::OBJECTS));
        }
        match &object {
            Object::Sequence(items) => self.spend(items.len())?,
            Object::Dict(items) => self.spend(items.len())?,
            _ => {}
        }
        self.objects.push(object);
        Ok((self.objects.len() - 1) as Id)
    }

    /// Whether containers may take `count` more values.
    pub(super) fn affords(&self, count: usize) -> Result<()> {
        let fits = count <= limits::CELLS - self.cells;
        if fits { Ok(()) } else { Err(format!("its containers hold more than {} values", limits::CELLS)) }
    }

    fn spend(&mut self, count: usize) -> Result<()> {
        self.affords(count)?;
        self.cells += count;
        Ok(())
    }

    pub(super) fn new_tuple(&mut self, items: Vec<Value>) -> Result<Value> {
        self.add(Object::Sequence(items)).map(Value::Tuple)
    }

    pub(super) fn new_list(&mut self, items: Vec<Value>) -> Result<Value> {
        self.add(Object::Sequence(items)).map(Value::List)
    }

    pub(super) fn new_dict(&mut self, items: Vec<(Value, Value)>) -> Result<Value> {
        self.add(Object::Dict(items)).map(Value::Dict)
    }

    pub(super) fn new_global(&mut self, module: Span, name: Span) -> Result<Value> {
        self.add(Object::Global(module, name)).map(Value::Global)
    }

    pub(super) fn new_storage(&mut self, storage: Storage) -> Result<Value> {
        self.add(Object::Storage(storage)).map(Value::Storage)
    }

    pub(super) fn new_tensor(&mut self, tensor: Tensor) -> Result<Value> {
        self.add(Object::Tensor(tensor)).map(Value::Tensor)
    }

    pub(super) fn text(&self, span: Span) -> &'a str {
        let bytes = self.pickle.get(span.start as usize..).and_then(|rest| rest.get(..span.len as usize));
        // Spans are made by the reader alone, which has checked them.
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The items of a tuple or a list; none for anything else.
    pub(super) fn items(&self, value: Value) -> &[Value] {
        let (Value::Tuple(id) | Value::List(id)) = value else { return &[] };
        match self.objects.get(id as usize) {
            Some(Object::Sequence(items)) => items,
            _ => &[],
        }
    }

    pub(super) fn extend_list(&mut self, id: Id, more: Vec<Value>) -> Result<()> {
        self.spend(more.len())?;
        if let Some(Object::Sequence(items)) = self.objects.get_mut(id as usize) {
            items.extend(more);
        }
        Ok(())
    }

    pub(super) fn dict(&self, id: Id) -> &[(Value, Value)] {
        match self.objects.get(id as usize) {
            Some(Object::Dict(items)) => items,
            _ => &[],
        }
    }

    pub(super) fn extend_dict(&mut self, id: Id, more: Vec<(Value, Value)>) -> Result<()> {
        self.spend(more.len())?;
        if let Some(Object::Dict(items)) = self.objects.get_mut(id as usize) {
            items.extend(more);
        }
        Ok(())
    }

    /// Module and name of a global; empty for anything else.
    pub(super) fn global(&self, id: Id) -> (&'a str, &'a str) {
        match self.objects.get(id as usize) {
            Some(Object::Global(module, name)) => (self.text(*module), self.text(*name)),
            _ => ("", ""),
        }
    }

    pub(super) fn storage(&self, value: Value) -> Option<Storage> {
        let Value::Storage(id) = value else { return None };
        match self.objects.get(id as usize) {
            Some(Object::Storage(storage)) => Some(*storage),
            _ => None,
        }
    }

    pub(super) fn tensor(&self, id: Id) -> Option<&Tensor> {
        match self.objects.get(id as usize) {
            Some(Object::Tensor(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// What a value is, for messages.
    pub(super) fn describe(&self, value: Value) -> String {
        match value {
            Value::Nothing => "None".into(),
            Value::Bool(_) | Value::Int(_) | Value::Scalar => "a number".into(),
            Value::Text(_) => "a string".into(),
            Value::Tuple(_) => "a tuple".into(),
            Value::List(_) => "a list".into(),
            Value::Dict(_) => "a dictionary without tensors".into(),
            Value::Storage(_) => "a storage".into(),
            Value::Tensor(_) => "a single tensor".into(),
            Value::Global(id) => format!("the name {}", self.shown_global(id)),
            Value::Opaque(id) => format!("an object made by {}, which is not executed", self.shown_global(id)),
        }
    }

    fn shown_global(&self, id: Id) -> String {
        let (module, name) = self.global(id);
        // Names are as long as a hostile file likes.
        format!("{module}.{name}").chars().take(100).collect()
    }
}
