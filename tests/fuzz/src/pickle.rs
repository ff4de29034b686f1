//! Pickles at random that make sense for long enough to get deep: opcodes that fit the stack, tensors that nearly fit their
//! storages, names that a model's tensors have.

use arbitrary::{Result, Unstructured};

use crate::torch::{KEYS, STORAGE_BYTES};

/// Names that readers look for, and beginnings of others' models.
pub const NAMES: [&str; 22] = [
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight",
    "cond_stage_model.transformer.text_model.embeddings.position_ids",
    "model.diffusion_model.input_blocks.0.0.weight",
    "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
    "model.diffusion_model.input_blocks.3.0.op.weight",
    "model.diffusion_model.input_blocks.999.1.norm.weight",
    "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight",
    "model.diffusion_model.middle_block.1.proj_in.weight",
    "model.diffusion_model.output_blocks.2.1.conv.weight",
    "model.diffusion_model.out.2.weight",
    "model_ema.diffusion_modelinput_blocks00weight",
    "first_stage_model.encoder.down.0.block.0.conv1.weight",
    "first_stage_model.encoder.conv_in.weight",
    "first_stage_model.encoder.mid.attn_1.q.weight",
    "first_stage_model.decoder.conv_in.weight",
    "first_stage_model.decoder.conv_out.weight",
    "first_stage_model.decoder.up.3.block.2.norm1.weight",
    "betas",
    "double_blocks.0",
];

const CLASSES: [&str; 8] = [
    "FloatStorage",
    "HalfStorage",
    "BFloat16Storage",
    "DoubleStorage",
    "LongStorage",
    "BoolStorage",
    "ByteStorage",
    "ComplexFloatStorage",
];

/// Steps of a pickle at most: the machine's own bounds have tests of their own.
const MOST_STEPS: usize = 200;

struct Writer(Vec<u8>);

/// A pickle made of what `input` says.
///
/// # Errors
/// When `input` has run out.
pub fn pickle(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut writer = Writer(vec![0x80, input.int_in_range(2..=5)?]);
    // Mostly a checkpoint; sometimes anything.
    let nested = input.ratio(3, 4)?;
    if nested {
        writer.raw(b"}").text("state_dict").raw(b"}(");
    }
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        writer.step(input)?;
    }
    writer.raw(if nested { b"us." } else { b"." });
    Ok(writer.0)
}

impl Writer {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn int(&mut self, int: i64) -> &mut Self {
        self.raw(b"\x8a\x08").raw(&int.to_le_bytes())
    }

    fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=15)? {
            0..=4 => self.text(input.choose::<&str>(&NAMES)?).tensor(input)?,
            5 => self.text(input.arbitrary()?),
            6 => self.int(input.arbitrary()?),
            7 => self.raw(input.choose::<&[u8]>(&[b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f", b"("])?),
            8 => self.raw(input.choose::<&[u8]>(&[b"t", b"l", b"d", b"e", b"u", b"\x90", b"\x91", b"1", b"o"])?),
            9 => self.raw(input.choose::<&[u8]>(&[b"0", b"2", b"a", b"s", b"b", b"R", b"\x81", b"\x92", b"Q"])?),
            10 => self.raw(input.choose::<&[u8]>(&[b"\x85", b"\x86", b"\x87", b"\x93", b"\x94", b"]("])?),
            11 => self.raw(&[*input.choose(b"hq")?, input.int_in_range(0..=9)?]),
            12 => self.global("collections", "OrderedDict").raw(b")R"),
            13 => self.global("torch._utils", "_rebuild_parameter"),
            14 => self.global(input.arbitrary()?, input.arbitrary()?),
            _ => self.raw(input.arbitrary::<&[u8]>()?),
        };
        Ok(())
    }

    /// A tensor over one of the archive's storages: mostly sound, sometimes one number off.
    fn tensor(&mut self, input: &mut Unstructured<'_>) -> Result<&mut Self> {
        let class = input.choose::<&str>(&CLASSES)?;
        let size = match *class {
            "FloatStorage" => 4,
            "HalfStorage" | "BFloat16Storage" => 2,
            "DoubleStorage" | "LongStorage" => 8,
            _ => 1,
        };
        let count = (STORAGE_BYTES / size) as i64;
        let mut shape: Vec<i64> = match input.int_in_range(0..=5)? {
            0 => vec![3, 64],
            1 => vec![count / 64, 64],
            2 => vec![32, count / 32 / 9, 3, 3],
            3 => vec![count / 4, 4, 1, 1],
            4 => vec![count],
            _ => vec![],
        };
        let mut strides: Vec<i64> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let mut numbers = [count, 0];
        if input.ratio(1, 3)? {
            let index = input.choose_index(numbers.len() + shape.len() + strides.len())?;
            let wrong = if input.arbitrary()? { input.arbitrary()? } else { input.int_in_range(-1..=9)? };
            let mut all = numbers.iter_mut().chain(&mut shape).chain(&mut strides);
            if let Some(number) = all.nth(index) {
                *number = wrong;
            }
        }
        if input.ratio(1, 8)? {
            shape.pop();
        }
        let [count, offset] = numbers;
        self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage").global("torch", class);
        self.text(input.choose::<&str>(&KEYS)?).text("cpu").int(count).raw(b"tQ").int(offset);
        for counts in [&shape, &strides] {
            self.raw(b"(");
            for count in counts {
                self.int(*count);
            }
            self.raw(b"t");
        }
        Ok(self.raw(b"\x89").global("collections", "OrderedDict").raw(b")RtR"))
    }
}
