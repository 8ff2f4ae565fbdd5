@echo off
rem Rehearsal: ibexdeploy itself plays this program. By the name of this file it knows what to do.
if not defined IBEXDEPLOY set IBEXDEPLOY=ibexdeploy.exe
"%IBEXDEPLOY%" agent stand-in "%~f0" -- %*
