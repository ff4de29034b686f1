//! Names in a pickle, and what it wants to be called with them: nothing ever is.
//!
//! `OrderedDict`, torch's two tensor recipes and its storages are understood by name; the result of any other call is a
//! [`Value::Opaque`], which swallows what is added to it. Source: torch's `serialization.py` and `_utils.py`.

use super::limits;
use super::machine::{Machine, underflow};
use super::objects::{Storage, Tensor, Value};
use super::reader::Result;
use crate::weights::Dtype;

impl Machine<'_> {
    pub(super) fn global(&mut self) -> Result<()> {
        let (module, name) = (self.reader.line()?, self.reader.line()?);
        let global = self.heap.new_global(module, name)?;
        self.push(global)
    }

    pub(super) fn stack_global(&mut self) -> Result<()> {
        match self.pop_many(2)?[..] {
            [Value::Text(module), Value::Text(name)] => {
                let global = self.heap.new_global(module, name)?;
                self.push(global)
            }
            _ => Err("a global's module and name are not strings".into()),
        }
    }

    /// Pushes an object of the class (or from the function) `callable`, unmade.
    pub(super) fn opaque(&mut self, callable: Value) -> Result<()> {
        match callable {
            Value::Global(id) | Value::Opaque(id) => self.push(Value::Opaque(id)),
            other => Err(format!("{} is called", self.heap.describe(other))),
        }
    }

    pub(super) fn instance(&mut self) -> Result<()> {
        self.global()?;
        let class = self.pop()?;
        self.pop_to_mark()?;
        self.opaque(class)
    }

    pub(super) fn object(&mut self) -> Result<()> {
        let parts = self.pop_to_mark()?;
        let class = parts.first().copied().ok_or_else(underflow)?;
        self.opaque(class)
    }

    pub(super) fn call(&mut self) -> Result<()> {
        let parts = self.pop_many(2)?;
        let (callable, arguments) = (parts[0], parts[1]);
        let Value::Tuple(_) = arguments else {
            return Err(format!("a call's arguments are {}", self.heap.describe(arguments)));
        };
        let name = if let Value::Global(id) = callable { self.heap.global(id) } else { ("", "") };
        match name {
            ("collections", "OrderedDict") => self.ordered_dict(arguments),
            ("torch._utils", "_rebuild_tensor_v2") => self.tensor(arguments),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let inner = self.heap.items(arguments).first().copied().ok_or("a parameter without its tensor")?;
                self.push(inner)
            }
            _ => self.opaque(callable),
        }
    }

    /// `OrderedDict()`, or `OrderedDict([[key, value], …])` as Python 2 wrote it.
    fn ordered_dict(&mut self, arguments: Value) -> Result<()> {
        let entries = self.heap.items(arguments).first().map_or(&[][..], |list| self.heap.items(*list));
        // The one call whose cost is not paid for by its own bytes: the heap's budget bounds it.
        self.heap.affords(entries.len())?;
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.heap.items(*entry) {
                [key, value] => items.push((*key, *value)),
                _ => return Err("an OrderedDict is made of something else than pairs".into()),
            }
        }
        let dict = self.heap.new_dict(items)?;
        self.push(dict)
    }

    /// `_rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks)`.
    fn tensor(&mut self, arguments: Value) -> Result<()> {
        let [storage, offset, shape, strides, ..] = self.heap.items(arguments) else {
            return Err("a tensor without storage, offset, size and stride".into());
        };
        if let Value::Opaque(class) = *storage {
            return self.push(Value::Opaque(class));
        }
        let storage = self.heap.storage(*storage).ok_or("a tensor's storage is not a persistent id")?;
        let count = |value: &Value| match value {
            Value::Int(int) => usize::try_from(*int).map_err(|_| format!("a tensor's size or stride is {int}")),
            other => Err(format!("a tensor's size or stride is {}", self.heap.describe(*other))),
        };
        let counts = |tuple: Value| match self.heap.items(tuple) {
            items if items.len() <= limits::DIMENSIONS => items.iter().map(count).collect::<Result<Vec<usize>>>(),
            items => Err(format!("a tensor of {} dimensions; at most {} are read", items.len(), limits::DIMENSIONS)),
        };
        let tensor = Tensor { storage, offset: count(offset)?, shape: counts(*shape)?, strides: counts(*strides)? };
        let tensor = self.heap.new_tensor(tensor)?;
        self.push(tensor)
    }

    /// A persistent id: `('storage', torch.FloatStorage, key, location, element count)`.
    pub(super) fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let parts = match *self.heap.items(id) {
            [Value::Text(kind), Value::Global(class), Value::Text(key), _, Value::Int(count)] => {
                Some((kind, class, key, count))
            }
            _ => None,
        };
        let parts = parts.filter(|(kind, ..)| self.heap.text(*kind) == "storage");
        let (_, class, key, count) = parts.ok_or("a persistent id is not that of a storage")?;
        let (module, name) = self.heap.global(class);
        // A type that no network's weights have; whether anything needs the tensor shows later.
        let Some(dtype) = storage_dtype(module, name) else { return self.push(Value::Opaque(class)) };
        let count = usize::try_from(count).map_err(|_| format!("a storage of {count} elements"))?;
        let storage = self.heap.new_storage(Storage { key, dtype, count })?;
        self.push(storage)
    }
}

fn storage_dtype(module: &str, class: &str) -> Option<Dtype> {
    let known = match (module, class) {
        ("torch", "FloatStorage") => Dtype::F32,
        ("torch", "HalfStorage") => Dtype::F16,
        ("torch", "BFloat16Storage") => Dtype::Bf16,
        ("torch", "DoubleStorage") => Dtype::F64,
        ("torch", "LongStorage") => Dtype::Other("i64", 8),
        ("torch", "IntStorage") => Dtype::Other("i32", 4),
        ("torch", "ShortStorage") => Dtype::Other("i16", 2),
        ("torch", "CharStorage") => Dtype::Other("i8", 1),
        ("torch", "ByteStorage") => Dtype::Other("u8", 1),
        ("torch", "BoolStorage") => Dtype::Other("bool", 1),
        _ => return None,
    };
    Some(known)
}
