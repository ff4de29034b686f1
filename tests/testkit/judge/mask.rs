//! A set of pixels and the few operations of mathematical morphology that the judge needs.
//!
//! Neighbours are the four that share a side; what lies outside the picture belongs to no set.

/// A set of a picture's pixels. A pixel's index counts along the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    width: usize,
    inside: Vec<bool>,
}

impl Mask {
    /// The set of those pixels whose entry is true. `inside` holds whole rows of `width` pixels.
    pub fn new(width: usize, inside: Vec<bool>) -> Self {
        Self { width, inside }
    }

    /// The set of those pixels of a picture of this mask's size whose centre fulfils a condition.
    pub fn like(&self, condition: impl Fn(f64, f64) -> bool) -> Self {
        let inside = (0..self.inside.len()).map(|index| {
            let (x, y) = self.centre(index);
            condition(x, y)
        });
        Self::new(self.width, inside.collect())
    }

    /// Its number of pixels.
    pub fn area(&self) -> usize {
        self.pixels().count()
    }

    /// The indices of its pixels.
    pub fn pixels(&self) -> impl Iterator<Item = usize> + '_ {
        self.inside.iter().enumerate().filter_map(|(index, &inside)| inside.then_some(index))
    }

    /// Its centre of mass, in pixels from the left and the top; not a number for the empty set.
    pub fn centroid(&self) -> (f64, f64) {
        let (mut sum_x, mut sum_y) = (0.0, 0.0);
        for index in self.pixels() {
            let (x, y) = self.centre(index);
            sum_x += x;
            sum_y += y;
        }
        let area = self.area() as f64;
        (sum_x / area, sum_y / area)
    }

    /// The pixels of both sets over those of either: 1 where they are equal, 0 where they have nothing in common.
    pub fn intersection_over_union(&self, other: &Self) -> f64 {
        let both = |combine: fn(bool, bool) -> bool| {
            self.inside.iter().zip(&other.inside).filter(|&(&a, &b)| combine(a, b)).count() as f64
        };
        both(|a, b| a && b) / both(|a, b| a || b).max(1.0)
    }

    /// Takes away, `times` over, every pixel with a neighbour outside.
    pub fn eroded(&self, times: usize) -> Self {
        self.repeat(times, |mask, index| mask.inside[index] && mask.neighbours(index).all(|inside| inside))
    }

    /// Adds, `times` over, every pixel with a neighbour inside.
    pub fn dilated(&self, times: usize) -> Self {
        self.repeat(times, |mask, index| mask.inside[index] || mask.neighbours(index).any(|inside| inside))
    }

    /// The pixels that do not belong to it.
    pub fn inverted(&self) -> Self {
        Self::new(self.width, self.inside.iter().map(|inside| !inside).collect())
    }

    /// The pixels that belong to it and not to `other`.
    pub fn without(&self, other: &Self) -> Self {
        self.both(other, |here, there| here && !there)
    }

    /// The pixels that belong to it and to `other`.
    pub fn within(&self, other: &Self) -> Self {
        self.both(other, |here, there| here && there)
    }

    /// With its holes: whatever cannot be reached from the picture's edge.
    pub fn filled(&self) -> Self {
        let (width, height) = (self.width, self.inside.len() / self.width);
        let on_edge = |index: usize| {
            let (x, y) = (index % width, index / width);
            x == 0 || y == 0 || x + 1 == width || y + 1 == height
        };
        let mut filled = self.like(|_, _| true);
        for part in self.inverted().components().into_iter().filter(|part| part.pixels().any(on_edge)) {
            for index in part.pixels() {
                filled.inside[index] = false;
            }
        }
        filled
    }

    /// Its connected parts.
    pub fn components(&self) -> Vec<Self> {
        let mut left = self.clone();
        let mut components = Vec::new();
        while let Some(start) = left.inside.iter().position(|&inside| inside) {
            let mut component = Self::new(self.width, vec![false; self.inside.len()]);
            let mut frontier = vec![start];
            left.inside[start] = false;
            while let Some(index) = frontier.pop() {
                component.inside[index] = true;
                for next in self.neighbour_indices(index).into_iter().flatten() {
                    if std::mem::take(&mut left.inside[next]) {
                        frontier.push(next);
                    }
                }
            }
            components.push(component);
        }
        components
    }

    fn both(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let inside = self.inside.iter().zip(&other.inside).map(|(&here, &there)| keep(here, there));
        Self::new(self.width, inside.collect())
    }

    fn repeat(&self, times: usize, keep: impl Fn(&Self, usize) -> bool) -> Self {
        (0..times).fold(self.clone(), |mask, _| {
            let inside = (0..mask.inside.len()).map(|index| keep(&mask, index)).collect();
            Self::new(mask.width, inside)
        })
    }

    fn neighbours(&self, index: usize) -> impl Iterator<Item = bool> + '_ {
        self.neighbour_indices(index).into_iter().map(|index| index.is_some_and(|index| self.inside[index]))
    }

    /// The neighbours above, below, left and right, as far as they are in the picture.
    fn neighbour_indices(&self, index: usize) -> [Option<usize>; 4] {
        let column = index % self.width;
        [
            index.checked_sub(self.width),
            Some(index + self.width).filter(|&below| below < self.inside.len()),
            (column > 0).then(|| index - 1),
            (column + 1 < self.width).then_some(index + 1),
        ]
    }

    /// The middle of a pixel, in pixels from the left and the top.
    fn centre(&self, index: usize) -> (f64, f64) {
        ((index % self.width) as f64 + 0.5, (index / self.width) as f64 + 0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;

    fn mask(rows: &[&str]) -> Mask {
        Mask::new(rows[0].len(), rows.iter().flat_map(|row| row.bytes().map(|pixel| pixel == b'#')).collect())
    }

    #[test]
    fn erosion_and_dilation_know_the_edge_of_the_picture() {
        let block = mask(&["###.", "###.", "###."]);
        assert_eq!(block.eroded(1), mask(&["....", ".#..", "...."]));
        assert_eq!(block.eroded(2).area(), 0);
        assert_eq!(block.eroded(1).dilated(1), mask(&[".#..", "###.", ".#.."]));
    }

    #[test]
    fn holes_are_filled_and_bays_are_not() {
        let shape = mask(&["####.", "#.##.", "####.", "#.#..", "#...."]);
        assert_eq!(shape.filled(), mask(&["####.", "####.", "####.", "#.#..", "#...."]));
        assert_eq!(shape.filled().without(&shape), mask(&[".....", ".#...", ".....", ".....", "....."]));
    }

    #[test]
    fn components_are_joined_by_sides_only() {
        let parts = mask(&["##.#", "#..#", ".#.."]).components();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0], mask(&["##..", "#...", "...."]));
        assert_eq!(parts[1].centroid(), (3.5, 1.0));
        assert_eq!(parts[0].intersection_over_union(&mask(&["#...", "....", "...."])), 1.0 / 3.0);
    }
}
