//! What a sweep makes of a command line, and how its grid is laid out.

use clap::Parser;
use image::{Rgb, RgbImage};

use super::{Plan, Setting, Sheets, Sweep};
use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn parsed(line: &str) -> Sweep {
    let line = ["darkroom", "sweep", "a red circle"].into_iter().chain(line.split_whitespace());
    match Cli::try_parse_from(line).unwrap().command {
        Command::Sweep(sweep) => *sweep,
        other => panic!("{other:?}"),
    }
}

fn plan(line: &str) -> Plan {
    parsed(line).into_parts().unwrap().1.sweep.unwrap()
}

fn refused(line: &str) -> String {
    match parsed(line).into_parts() {
        Err(Failure::Usage(why)) => why,
        other => panic!("{line}: {:?}", other.err()),
    }
}

fn cells(plan: &Plan) -> Vec<Vec<Setting>> {
    (0..plan.cells()).map(|cell| plan.cell(cell)).collect()
}

#[test]
fn the_first_flag_makes_the_columns_and_the_second_the_rows() {
    use Setting::{Sampler, Scale};
    let (plms, ddim) = (Sampler("plms".into()), Sampler("ddim".into()));
    let found = plan("--sampler plms,ddim --steps 5 --scale 1.5,2");
    let expected = [[&plms, &Scale(1.5)], [&ddim, &Scale(1.5)], [&plms, &Scale(2.0)], [&ddim, &Scale(2.0)]]
        .map(|cell| cell.map(Clone::clone));
    assert_eq!(cells(&found), expected);
    assert_eq!((found.columns(), found.rows()), (2, 2));
    assert_eq!(found.to_string(), "across sampler plms, ddim; down scale 1.5, 2");
    // A flag may also come several times, and under its other names.
    let found = plan("--guidance-scale 1.5 --ddim-steps 5,6 --scale 2");
    assert_eq!(found.to_string(), "across scale 1.5, 2; down steps 5, 6");
}

#[test]
fn one_flag_makes_one_row_unless_it_is_broken() {
    let shape = |line: &str| {
        let plan = plan(line);
        (plan.columns(), plan.rows())
    };
    assert_eq!(shape("--scale 1.5,2,3,4,5,6,7,8 --plms --steps 50"), (8, 1));
    assert_eq!(shape("--seed 1,2,3,4,5 --n-rows 2"), (2, 3));
    assert_eq!(shape("--seed 1,2 --n-rows 9"), (2, 1));
    let seeds: Vec<String> = (0..40).map(|seed: u32| seed.to_string()).collect();
    assert_eq!(shape(&format!("--seed {}", seeds.join(","))), (16, 3));
}

#[test]
fn what_no_grid_can_show_is_refused_by_name() {
    assert!(refused("--scale 3").starts_with("nothing varies: give --scale"));
    let why = refused("--seed 1,2 --scale 1,2 --steps 4,5");
    assert!(why.starts_with("--seed, --scale and --steps: "), "{why}");
    let numbers = (0..17).map(|number: u32| number.to_string()).collect::<Vec<_>>().join(",");
    let why = refused(&format!("--seed {numbers} --scale {numbers}"));
    assert_eq!(why, "--seed and --scale: 289 pictures in a grid, at most 256 are allowed");
    assert!(refused("--seed 1,2 --n-samples 2").starts_with("--n-samples: "));
    assert!(refused("--seed 1,2 --scale 1,2 --n-rows 2").starts_with("--n-rows: "));
    assert!(refused("--sampler ddim,plms --eta 0.5").starts_with("--eta: "));
    assert!(refused("--seed 1,2 --variation-strength 0.2").starts_with("--variation-strength: "));
    assert!(refused("--strength 0.5,0.6 --init-img no/such.png").contains("no/such.png"));
    for line in ["--scale 1,51", "--seed 1,x", "--strength 0.5,0.6", "--steps 0,1"] {
        let line = ["darkroom", "sweep", "x"].into_iter().chain(line.split(' '));
        assert!(Cli::try_parse_from(line).is_err());
    }
    // Elsewhere the same flags have one value.
    for line in ["--scale 1,2", "--sampler plms --sampler ddim", "--seed 1 --seed 2", "--steps 4,5"] {
        let line = ["darkroom", "txt2img", "x"].into_iter().chain(line.split(' '));
        assert!(Cli::try_parse_from(line).is_err());
    }
}

#[test]
fn a_grid_is_done_with_its_last_cell() {
    let plan = plan("--scale 1,2 --seed 1,2");
    let mut sheets = Sheets::new(&plan);
    let colour = |value| RgbImage::from_pixel(64, 32, Rgb([value; 3]));
    // The second prompt's first picture comes between those of the first.
    for (index, value) in [(0, 10), (4, 99), (3, 40), (1, 20)] {
        assert_eq!(sheets.put(index, Some(&colour(value))).unwrap(), None);
    }
    let sheet = sheets.put(2, None).unwrap().unwrap();
    // At the left "seed 1" and three dots on each side; above a line of letters and as much; two dots between.
    let (left, band) = (6 * 6 - 1 + 6, 7 + 6);
    assert_eq!(sheet.dimensions(), (left + 2 * 66, band + 2 * 34));
    for (x, y, value) in [(0, 0, 10), (66, 0, 20), (0, 34, 160), (66, 34, 40)] {
        for (across, down) in [(0, 0), (63, 31)] {
            assert_eq!(sheet.get_pixel(left + x + across, band + y + down).0, [value; 3]);
        }
    }
    let ink = |x: std::ops::Range<u32>, y: std::ops::Range<u32>| {
        y.flat_map(|y| x.clone().map(move |x| (x, y))).filter(|&(x, y)| sheet.get_pixel(x, y).0 == [0; 3]).count()
    };
    for column in 0..2 {
        let x = left + column * 66;
        assert!(ink(x..x + 64, 0..band) > 20, "column {column} has no label");
        let y = band + column * 34;
        assert!(ink(0..left, y..y + 32) > 20, "row {column} has no label");
    }
    assert_eq!(ink(0..left, 0..band), 0);
}

#[test]
fn a_broken_row_has_labels_above_every_cell() {
    let plan = plan("--seed 1,2,3 --n-rows 2");
    let mut sheets = Sheets::new(&plan);
    let white = RgbImage::from_pixel(256, 256, Rgb([255; 3]));
    let mut put = |index| sheets.put(index, Some(&white)).unwrap();
    assert!(put(0).is_none() && put(1).is_none());
    let sheet = put(2).unwrap();
    // Dots of two pixels.
    assert_eq!(sheet.dimensions(), (4 + 2 * 260, 2 * (26 + 256) + 4));
    let inked: Vec<u32> =
        (0..sheet.height()).filter(|&y| (0..sheet.width()).any(|x| sheet.get_pixel(x, y).0 == [0; 3])).collect();
    assert!(inked.iter().all(|y| (6..20).contains(y) || (288..302).contains(y)), "{inked:?}");
    assert_eq!(inked.len(), 28);
}

#[test]
fn a_grid_that_is_too_large_is_refused_before_it_is_drawn() {
    let numbers = (0..16).map(|number: u32| number.to_string()).collect::<Vec<_>>().join(",");
    let plan = plan(&format!("--seed {numbers} --scale {numbers}"));
    let sheets = Sheets::new(&plan);
    sheets.check(512, 512).unwrap();
    let why = sheets.check(2048, 2048).unwrap_err().to_string();
    assert!(why.contains("16 columns and 16 rows of 2048x2048") && why.contains("--skip-grid"), "{why}");
}
