"""What holds for answers on the processor holds on a GPU, to the same last bits: these are the same tests."""

from __future__ import annotations

from tests.e2e import test_answers as on_the_processor

test_alone = on_the_processor.test_alone_every_number_of_rows_is_answered_whole
test_all_models_at_once = on_the_processor.test_64_callers_of_all_models_at_once_get_their_own_answers
test_sharing = on_the_processor.test_requests_that_arrive_together_share_runs
test_lengths = on_the_processor.test_sequences_of_different_lengths_never_meet_in_a_run
test_dependent_rows = on_the_processor.test_a_model_whose_rows_influence_each_other_is_never_batched
