//! `torch.save`: a zip archive of a pickle and of the tensors' bytes, with what Lightning keeps beside the weights.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::pickle::Pickle;
use super::{Precision, Saved};

/// torch aligns storages so.
const ALIGNMENT: u16 = 64;

pub(super) fn write(tensors: &[(String, Saved<'_>)], lightning: bool, to: &Path) -> anyhow::Result<()> {
    // An int64 and a few f32 that no network reads follow the weights.
    let (positions, betas) = (tensors.len().to_string(), (tensors.len() + 1).to_string());
    let mut zip = ZipWriter::new(BufWriter::new(File::create(to)?));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    zip.start_file("archive/data.pkl", options)?;
    zip.write_all(&pickled(tensors, &positions, &betas, lightning))?;
    zip.start_file("archive/byteorder", options)?;
    zip.write_all(b"little")?;
    for (key, (_, tensor)) in tensors.iter().enumerate() {
        zip.start_file(format!("archive/data/{key}"), options)?;
        zip.write_all(&tensor.bytes())?;
    }
    zip.start_file(format!("archive/data/{positions}"), options)?;
    zip.write_all(&(0..77_i64).flat_map(i64::to_le_bytes).collect::<Vec<u8>>())?;
    zip.start_file(format!("archive/data/{betas}"), options)?;
    zip.write_all(&[0; 4000])?;
    zip.start_file("archive/version", options)?;
    zip.write_all(b"3\n")?;
    zip.finish()?.flush()?;
    Ok(())
}

fn pickled(tensors: &[(String, Saved<'_>)], positions: &str, betas: &str, lightning: bool) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.dict(|top| {
        if lightning {
            before_the_weights(top);
        }
        top.text("state_dict").ordered_dict(|state| {
            for (key, (name, tensor)) in tensors.iter().enumerate() {
                let storage = if tensor.precision == Precision::F32 { "FloatStorage" } else { "HalfStorage" };
                state.text(name).tensor(storage, &key.to_string(), &tensor.shape);
            }
            let name = "cond_stage_model.transformer.text_model.embeddings.position_ids";
            state.text(name).tensor("LongStorage", positions, &[1, 77]);
            state.text("betas").tensor("FloatStorage", betas, &[1000]);
        });
        if lightning {
            after_the_weights(top);
        }
    });
    pickle.finish()
}

fn before_the_weights(top: &mut Pickle) {
    top.text("epoch").int(0).text("global_step").int(470_000).text("pytorch-lightning_version").text("1.4.2");
    top.text("callbacks").dict(|callbacks| {
        callbacks.global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint").dict(|state| {
            state.text("monitor").text("val/loss").text("best_model_score").none();
            state.text("best_model_path").call("pathlib", "PosixPath", |path| {
                path.text("logs").text("best.ckpt");
            });
            state.text("score").call("numpy.core.multiarray", "scalar", |scalar| {
                scalar.call("numpy", "dtype", |dtype| {
                    dtype.text("f8").bool(false).bool(true);
                });
                scalar.float(0.25);
            });
        });
    });
}

fn after_the_weights(top: &mut Pickle) {
    top.text("optimizer_states").list(|states| {
        states.dict(|state| {
            state.text("param_groups").list(|groups| {
                groups.dict(|group| {
                    group.text("lr").float(1e-4).text("betas").tuple(|betas| {
                        betas.float(0.9).float(0.999);
                    });
                });
            });
        });
    });
    top.text("lr_schedulers").list(|schedulers| {
        schedulers.object("ldm.lr_scheduler", "LambdaLinearScheduler", |state| {
            state.text("verbosity_interval").int(0).text("last_f").float(1.0);
        });
    });
    top.text("hparams_name").none().text("hyper_parameters").object(
        "pytorch_lightning.utilities.parsing",
        "AttributeDict",
        |state| {
            state.text("scale_factor").float(0.18215);
        },
    );
}
