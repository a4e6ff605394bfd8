"""Changing an instance before it is sent: conversion, editing."""
