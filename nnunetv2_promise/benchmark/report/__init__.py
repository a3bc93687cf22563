"""The benchmark's report: tables, diagrams, pictures, pages."""
