//! Pictures mean their prompts: what the embedded model draws through the four services, judged by colour, shape and place.

use testkit::fleet::Fleet;
use testkit::gallery;
use testkit::judge::Verdict;
use testkit::judge::rates::{POCKET_MODEL, Rates};
use testkit::scenes::Scene;

/// Points below the model's own rates that 32 pictures may be: with so few, one standard deviation is 4.
const SLACK: f64 = 8.0;

/// Every colour, shape, size, fill, relation, count and land. A picture's seed is its place in this list; none was chosen for its looks.
const PROMPTS: [&str; 32] = [
    "a red circle on a white background",
    "a blue square on a yellow background",
    "a green triangle on a black background",
    "an orange star on a purple background",
    "a purple heart on a gray background",
    "a small white circle on a blue background",
    "a large black star on an orange background",
    "a small yellow heart on a green background",
    "a large gray square on a red background",
    "a red heart left of a blue circle on a white background",
    "a yellow star right of a green square on a black background",
    "a purple triangle above an orange circle on a gray background",
    "a white square below a black triangle on a red background",
    "a small blue star left of a large red triangle on a yellow background",
    "a large green heart above a small purple square on a white background",
    "a gray circle right of a small orange heart on a blue background",
    "two red squares on a white background",
    "two yellow hearts on a purple background",
    "three blue circles on an orange background",
    "three white stars on a green background",
    "a large outlined red circle on a white background",
    "an outlined blue house on a yellow background",
    "a striped green and white heart on a purple background",
    "a large dotted yellow and red square on a black background",
    "a purple ring above a gray moon on a white background",
    "a small black arrow right of a large green tree on an orange background",
    "four blue diamonds on a gray background",
    "a white star inside a red circle on a blue background",
    "a red ring, a yellow moon, a blue tree and a black house on a white background",
    "a yellow sun over green hills under a blue sky",
    "an orange sun over gray mountains under a purple sky",
    "a white moon over a blue sea under a black sky",
];

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_fixed_prompts_are_drawn_as_often_right_as_the_model_can() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let scenes: Vec<Scene> = PROMPTS.iter().map(|prompt| prompt.parse()).collect::<Result<_, _>>()?;
    let scenes: Vec<(Scene, u64)> = scenes.into_iter().zip(0..).collect();
    let exhibits = gallery::draw(&fleet.client().await?, &scenes, |request| request).await?;
    fleet.drain().await?;

    let verdicts: Vec<Verdict> = exhibits.iter().map(|exhibit| exhibit.verdict).collect();
    let rates = Rates::of(&verdicts);
    println!("{rates}");
    let faulty: Vec<String> = exhibits
        .iter()
        .filter(|exhibit| !exhibit.verdict.all_right())
        .map(|exhibit| format!("{} (seed {}): {:?}", exhibit.scene, exhibit.seed, exhibit.verdict))
        .collect();
    for ((attribute, rate), (_, own)) in rates.named().into_iter().zip(POCKET_MODEL.named()) {
        let bar = own - SLACK;
        assert!(rate >= bar, "{attribute}: {rate:.1} % is below {bar:.1} %\n{rates}\n{}", faulty.join("\n"));
    }
    Ok(())
}
