//! The largest set of nodes in which every pair is below the budget: a clique, searched for with a bound.
//!
//! That search may take for ever on a graph made to that end. Real distances are nothing like it, as nodes stand in
//! clusters; for the rest there is a limit of steps, after which the best set found so far stands. It is a sound set then,
//! perhaps not the largest.

use super::Matrix;

/// Nodes to colour before the search gives up: eight times what 500 nodes need that are all near to each other.
const STEPS: usize = 1_000_000;

/// A set of nodes, one bit each.
type Bits = Vec<u64>;

struct Search {
    near: Vec<Bits>,
    best: Vec<usize>,
    steps: usize,
}

/// The largest set around `centre`, or at all; sorted. Of several that are equally large, one that the order of nodes decides.
pub(super) fn largest(matrix: &Matrix, budget: u64, centre: Option<usize>) -> Vec<usize> {
    let size = matrix.size;
    let words = size.div_ceil(64);
    let mut near = vec![vec![0u64; words]; size];
    for (a, row) in near.iter_mut().enumerate() {
        for b in (0..size).filter(|b| *b != a && matrix.at(a, *b) < budget) {
            row[b / 64] |= 1 << (b % 64);
        }
    }
    let (taken, open) = match centre {
        Some(centre) => (vec![centre], near[centre].clone()),
        None => {
            let mut all = vec![0; words];
            (0..size).for_each(|node| all[node / 64] |= 1 << (node % 64));
            (Vec::new(), all)
        }
    };
    let mut search = Search { near, best: taken.clone(), steps: STEPS };
    search.grow(&mut taken.clone(), open);
    search.best.sort_unstable();
    search.best
}

impl Search {
    /// Adds to `taken` from `open`, all of whom are near to all taken.
    fn grow(&mut self, taken: &mut Vec<usize>, mut open: Bits) {
        if taken.len() > self.best.len() {
            self.best.clone_from(taken);
        }
        // Nodes of one colour are not near to each other, so each colour adds one node at most.
        let coloured = self.coloured(&open);
        self.steps = self.steps.saturating_sub(coloured.len());
        for (node, colours) in coloured.into_iter().rev() {
            if taken.len() + colours <= self.best.len() || self.steps == 0 {
                return;
            }
            let next = open.iter().zip(&self.near[node]).map(|(a, b)| a & b).collect();
            taken.push(node);
            self.grow(taken, next);
            taken.pop();
            open[node / 64] &= !(1 << (node % 64));
        }
    }

    /// The nodes by colour, each with how many colours there are up to its own.
    fn coloured(&self, open: &Bits) -> Vec<(usize, usize)> {
        let mut order = Vec::new();
        let mut left = open.clone();
        let mut colour = 0;
        while left.iter().any(|word| *word != 0) {
            colour += 1;
            let mut choice = left.clone();
            while let Some(node) = first(&choice) {
                left[node / 64] &= !(1 << (node % 64));
                choice[node / 64] &= !(1 << (node % 64));
                for (word, near) in choice.iter_mut().zip(&self.near[node]) {
                    *word &= !near;
                }
                order.push((node, colour));
            }
        }
        order
    }
}

fn first(bits: &Bits) -> Option<usize> {
    let word = bits.iter().position(|word| *word != 0)?;
    Some(word * 64 + bits[word].trailing_zeros() as usize)
}
