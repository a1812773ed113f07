"""Asset groups and owners.

Group names start with a number because Dagster sorts groups by name; the numbers follow the flow of data.
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

# The study team decides what is measured, the measurement team runs the model, and the analysis team owns everything
# derived from its output.
STUDY_TEAM, MEASUREMENT_TEAM, ANALYSIS_TEAM = ["team:study"], ["team:measurement"], ["team:analysis"]
