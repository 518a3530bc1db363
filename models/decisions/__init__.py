"""From scores to decisions: calibration, operating threshold, zone of uncertainty.

calibration: METHODS, fit_platt
calibrators: Calibration, Platt
decision: Call, Decision, cross_fitted, fit_decision
newton: logistic_fit
thresholds: TargetSensitivity, ThresholdRule, Zone, read_rule
"""
