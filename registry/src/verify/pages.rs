//! The pages of the registry, the redo list and the free list.

use ar7_engine::format::{BlockRef, DoubledRef, Run};
use ar7_engine::{Check, Error as EngineError, Value};
use zeroize::Zeroizing;

use super::finding::Subject;
use super::verifier::Verifier;
use crate::committed::read_copy;
use crate::records::{Free, NEAR_PAGES_COUNTER, Record, TreeId};
use crate::tree::{Page, PageExpectation};

/// Bounds of a page's keys: not below `low`, and below `high`.
#[derive(Clone, Default)]
struct Bounds {
    low: Zeroizing<Vec<u8>>,
    high: Option<Zeroizing<Vec<u8>>>,
}

/// A callback that receives each record of a tree.
type Visit<'v, 'a, R> = dyn FnMut(&mut Verifier<'a>, <R as Record>::Key, <R as Record>::Value) + 'v;

impl<'a> Verifier<'a> {
    /// Visits every page of a tree once, and every record that can be decoded. Reports an
    /// unreadable page and skips it.
    pub(super) fn walk<R: Record>(&mut self, visit: &mut Visit<'_, 'a, R>) {
        let root = self.snapshot.commit().slot.roots[R::TREE.index()];
        let Some(block) = root.block else { return };
        let before = self.unreadable_pages;
        let level = root.depth.saturating_sub(1);
        let entries = self.walk_page::<R>(block, level, &Bounds::default(), visit);
        if self.unreadable_pages == before && entries != root.entries {
            self.disagree(Subject::Tree(R::TREE), Check::Root, root.entries, entries);
        }
    }

    fn walk_page<R: Record>(
        &mut self,
        block: DoubledRef,
        level: u8,
        bounds: &Bounds,
        visit: &mut Visit<'_, 'a, R>,
    ) -> u64 {
        let [subject, second] = block.copies().map(|copy| page_at::<R>(copy));
        // A page that is already accounted for is skipped, so that no page is visited twice.
        let [first, copy] = block.copies().map(|copy| Run::single(copy.position));
        let is_new = self.account(|| subject.clone(), first);
        if !self.account(|| second, copy) || !is_new {
            self.unreadable_pages += 1;
            return 0;
        }
        let expect = PageExpectation { tree: R::TREE.number(), level };
        let Some(page) = self.open_page::<R>(block, expect) else {
            self.unreadable_pages += 1;
            return 0;
        };
        self.summary.pages += 1;
        self.near_pages += u64::from(block.is_near());
        self.check_bounds(&subject, &page, bounds);
        let mut entries = 0;
        for cell in 0..page.count() {
            if page.is_branch() {
                let inner = Bounds {
                    low: if cell == 0 {
                        bounds.low.clone()
                    } else {
                        Zeroizing::new(page.key(cell).to_vec())
                    },
                    high: if cell + 1 < page.count() {
                        Some(Zeroizing::new(page.key(cell + 1).to_vec()))
                    } else {
                        bounds.high.clone()
                    },
                };
                entries += self.walk_page::<R>(page.child_block(cell), level - 1, &inner, visit);
            } else {
                entries += 1;
                self.visit_record::<R>(&subject, &page, cell, visit);
            }
        }
        entries
    }

    /// Opens both copies of a page and compares them. Reports each copy that is not as it should be.
    fn open_page<R: Record>(&mut self, block: DoubledRef, expect: PageExpectation) -> Option<Page> {
        let [first, second] = block.copies();
        let store = self.snapshot.store();
        match [first, second].map(|copy| read_copy(store, copy, expect)) {
            [Ok(page), Ok(copy)] => {
                if page != copy {
                    let expected = "the same data in both copies";
                    let (at, check) = (second.position, Check::Page);
                    let error = EngineError::damaged(at, check, expected, "other data");
                    self.find(page_at::<R>(second), error);
                }
                Some(page)
            }
            [page, copy] => {
                for (at, outcome) in [(first, &page), (second, &copy)] {
                    if let Err(error) = outcome {
                        self.find(page_at::<R>(at), error.clone());
                    }
                }
                page.or(copy).ok()
            }
        }
    }

    fn visit_record<R: Record>(
        &mut self,
        subject: &Subject,
        page: &Page,
        cell: usize,
        visit: &mut Visit<'_, 'a, R>,
    ) {
        let key = R::decode_key(page.key(cell));
        let value = R::decode_value(page.key(cell), page.value(cell));
        match key.and_then(|key| Ok((key, value?))) {
            Ok((key, value)) => visit(self, key, value),
            Err(error) => {
                // An undecodable record hides blocks, like an unreadable page.
                self.unreadable_pages += 1;
                self.find(subject.clone(), error);
            }
        }
    }

    fn check_bounds(&mut self, subject: &Subject, page: &Page, bounds: &Bounds) {
        let first = usize::from(page.is_branch());
        if first >= page.count() {
            return;
        }
        let (low, high) = (page.key(first), page.key(page.count() - 1));
        let is_below = low < &bounds.low[..] || page.is_branch() && low == &bounds.low[..];
        let outside = if is_below {
            Some((bounds.low.clone(), low))
        } else {
            bounds.high.clone().filter(|bound| high >= &bound[..]).map(|bound| (bound, high))
        };
        if let Some((expected, found)) = outside {
            let (expected, found) = (Value::Bytes(expected.to_vec()), Value::Bytes(found.to_vec()));
            self.disagree(subject.clone(), Check::KeyOrder, expected, found);
        }
    }

    /// Checks the number of pages whose copies lie close to each other, once every page is visited.
    pub(super) fn check_near_pages(&mut self) {
        let counted = self.snapshot.commit().slot.counters[NEAR_PAGES_COUNTER];
        if self.unreadable_pages == 0 && counted != self.near_pages {
            let error = EngineError::damaged(None, Check::Page, counted, self.near_pages);
            self.find(Subject::Tree(TreeId::Streams), error);
        }
    }

    /// Accounts for the blocks of the redo list: both copies of its blocks, and the shadow blocks.
    pub(super) fn check_redo_list(&mut self) {
        let commit = self.snapshot.commit();
        match self.snapshot.store().redo_blocks(commit) {
            Ok(list) => {
                for run in list.blocks.iter() {
                    self.account(|| Subject::Blocks(run), run);
                }
                for (position, error) in list.faults {
                    self.find(Subject::Blocks(Run::single(position)), error);
                }
                // The other blocks of the list are unknown, so what is not accounted for says nothing.
                self.unreadable_pages += u64::from(list.is_partial);
            }
            Err(error) => {
                let position = commit.slot.redo_head.map(|head| head.position);
                let position = position.expect("only an existing list can be bad");
                self.unreadable_pages += 1;
                self.find(Subject::Blocks(Run::single(position)), error);
            }
        }
    }

    /// Checks the free list and the inline free runs of the meta slot.
    pub(super) fn check_free(&mut self) {
        let mut recorded = 0;
        let mut last_end = 0;
        self.walk::<Free>(&mut |verifier, start, run| {
            recorded += u64::from(run.count());
            if start.get() <= last_end {
                let error =
                    EngineError::damaged(start, Check::FreeMap, "a gap before the free run", start);
                verifier.find(Subject::Blocks(run), error);
            }
            last_end = run.end();
            verifier.account(|| Subject::Blocks(run), run);
        });
        for &run in &self.snapshot.commit().slot.inline_free {
            recorded += u64::from(run.count());
            self.account(|| Subject::Blocks(run), run);
        }
        self.summary.free_blocks = recorded;
        let counted = self.snapshot.free_blocks();
        if self.unreadable_pages == 0 && counted != recorded {
            self.disagree(Subject::Tree(TreeId::Free), Check::FreeMap, counted, recorded);
        }
    }
}

/// Returns the subject of a finding about a copy of a page.
fn page_at<R: Record>(copy: BlockRef) -> Subject {
    Subject::Page { tree: R::TREE, position: copy.position }
}
