"""From scores to decisions: calibration, operating threshold, zone of uncertainty.

calibration: METHODS, calibrate, fit_platt
calibrators: Calibration, Platt
newton: logistic_fit
thresholds: Probability, TargetSensitivity, ThresholdRule, Zone, cross_fitted, read_rule,
    uncertain_zone
"""
