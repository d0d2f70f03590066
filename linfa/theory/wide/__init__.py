"""Limits of many units and many samples, with their finite-size laws."""
