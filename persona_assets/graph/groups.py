"""Where an asset stands in the page, and who answers for it.

Groups are numbered: the page orders them by name, and so in the order in which data flow.
"""

STUDY = "1_study"
CHECKPOINT = "2_checkpoint"
RESPONSES = "3_responses"
DIVERGENCE = "4_divergence"
GEOMETRY = "5_geometry"
LEAKAGE = "6_leakage"
STATISTICS = "7_statistics"
DRIFT = "8_drift"
PRESENTATION = "9_presentation"

# People decide what is measured, a model measures it, and whoever reads the numbers answers for what is made of them.
STUDY_TEAM, MEASUREMENT_TEAM, ANALYSIS_TEAM = ["team:study"], ["team:measurement"], ["team:analysis"]
