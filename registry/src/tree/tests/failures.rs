//! Unreadable pages and a full space: a failed operation changes nothing.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use ar7_engine::Error as EngineError;

use super::*;

/// A space that fails one in `one_in` calls at random.
struct Failing {
    space: HeapSpace,
    random: RefCell<ChaCha8Rng>,
    one_in: u32,
    refused: Cell<u32>,
}

impl Failing {
    fn refuse(&self) -> Result<()> {
        if self.one_in > 0 && self.random.borrow_mut().next_u32().is_multiple_of(self.one_in) {
            self.refused.set(self.refused.get() + 1);
            return Err(EngineError::ReadOnly.into());
        }
        Ok(())
    }
}

impl PageStore for Failing {
    fn load(&self, at: DoubledRef, expect: PageExpectation) -> Result<Arc<Page>> {
        self.refuse()?;
        self.space.load(at, expect)
    }
}

impl PageSpace for Failing {
    fn allocate(&mut self, pages: u32) -> Result<Vec<[Position; 2]>> {
        self.refuse()?;
        self.space.allocate(pages)
    }

    fn generation(&self) -> Generation {
        self.space.generation()
    }

    fn store(&mut self, at: DoubledRef, page: Arc<Page>) -> Result<()> {
        self.space.store(at, page)
    }

    fn release(&mut self, at: DoubledRef) {
        self.space.release(at);
    }
}

#[test]
fn a_failed_operation_changes_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut space = Failing {
        space: HeapSpace::new(),
        random: RefCell::new(ChaCha8Rng::seed_from_u64(6)),
        one_in: 40,
        refused: Cell::new(0),
    };
    let (mut tree, mut model) = (Tree::open(TREE, Root::default()), Model::new());
    let any_key = |random: &mut ChaCha8Rng| (random.next_u32() % 4000).to_be_bytes().to_vec();
    for operation in 0..60_000 {
        let key = any_key(&mut random);
        if random.next_u32() % 10 < 4 + operation / 10_000 {
            if let Ok(removed) = tree.remove(&mut space, &key) {
                assert_eq!(removed, model.remove(&key));
            }
        } else {
            let value = vec![7; random.next_u32() as usize % 400];
            if let Ok(before) = tree.insert(&mut space, &key, &value) {
                assert_eq!(before, model.insert(key, value));
            }
        }
        // Flushed often, so that most pages have to be loaded.
        if random.next_u32().is_multiple_of(30) && tree.flush(&mut space).is_ok() {
            space.space.raise_step();
        }
        if random.next_u32().is_multiple_of(200) {
            let limit = Position::at(random.next_u32() % (space.space.end().get() + 1));
            // A failed relocation may have copied some pages. The copies have the same content.
            tree.relocate(&mut space, &|at| at.position >= limit, 20, u32::MAX);
        }
        if operation % 10_000 == 0 {
            assert_equal(&tree, &space.space, &model, &[]);
        }
    }
    assert!(space.refused.get() > 1000, "{} calls failed", space.refused.get());
    space.one_in = 0;
    let probes: Vec<Vec<u8>> = (0..200).map(|_| any_key(&mut random)).collect();
    assert_equal(&tree, &space.space, &model, &probes);
    let root = tree.flush(&mut space).unwrap();
    assert_committed(root, &space.space, &model, &probes);
    for key in model.keys() {
        assert!(tree.remove(&mut space, key).unwrap().is_some());
    }
    assert_eq!(space.space.used(), 0, "no page leaks");
}
